"""The sampler: several times a second, it notes which connections are open and in a transaction, for a whole window."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise

from patterns.server_errors import SERVER_ERRORS, one_line
from rig.percentile import percentile_or_none
from rig.probe.window import Seen, Window
from rig.records import ProbeShare, Sample

QUERIES_PER_SAMPLE = 2
QUERIES_PER_MARKER = 2


class Sampler(threading.Thread):
    """Takes samples at a fixed interval until it is stopped."""

    def __init__(self, look: Callable[[int], Seen], interval: float, window: Window,
                 on_sample: Callable[[Sample], None]) -> None:
        super().__init__(name="probe", daemon=True)
        self.own_ids: set[int] = set()
        self._look = look
        self._interval = interval
        self._window = window
        self._on_sample = on_sample
        self._ended = threading.Event()
        self._tries = 0
        self._cpu_seconds = 0.0

    def run(self) -> None:
        """Take samples until :meth:`stop`."""
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._interval, time.monotonic())
            self._try()
        self._cpu_seconds = time.thread_time()

    def stop(self) -> None:
        """Let the present sample end, and take no more."""
        self._ended.set()
        self.join()

    def share(self, markers: int) -> ProbeShare:
        """Return what the sampling and ``markers`` marker connections used of the server and of this machine."""
        times = [sample.t for sample in self._window.samples]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        return ProbeShare(
            connections=markers + len(self.own_ids),
            queries=markers * QUERIES_PER_MARKER + self._tries * QUERIES_PER_SAMPLE,
            cpu_seconds=self._cpu_seconds, samples=len(times),
            interval_median=percentile_or_none(gaps, 50),
            interval_p95=percentile_or_none(gaps, 95))

    def _try(self) -> None:
        self._tries += 1
        try:
            seen = self._look(self._window.index)
        except SERVER_ERRORS as error:
            self._window.fail(one_line(error))
            return
        self.own_ids |= seen.own
        self._window.add(seen)
        self._show(seen.sample)

    def _show(self, sample: Sample) -> None:
        try:
            self._on_sample(sample)
        except Exception as error:      # a failing watcher must not stop the counting
            self._window.fail(f"the view failed: {one_line(error)}")
