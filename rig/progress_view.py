"""The live terminal view of a comparison: the start of the stack, the run in progress, the time left."""

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rig.plural import plural
from rig.records import Cell, DagRunRecord, PlannedRun, Sample
from rig.stack.interface import Step

BARS = "▁▂▃▄▅▆▇█"
HISTORY = 60            # samples in the small chart
CURVE_EVERY = 0.5       # seconds between two of its points
START_OF_A_TASK = 1.0   # seconds of a slot that a task takes besides its hold, until a run has been measured
RESTARTING = 10.0    # seconds to restart the executor before a DAG run
AROUND = 18.0           # seconds of a DAG run besides its tasks, including that start, until one has been measured
LOOK = {"downloading": ("↓", "cyan"), "starting": ("…", "yellow"), "ready": ("✓", "green"),
        "stopping": ("…", "yellow"), "stopped": ("·", "dim"), "clearing": ("…", "yellow")}


def cell_name(cell: Cell) -> str:
    """Return a cell's name for people."""
    driver = "" if cell.driver == "sync" else f" ({cell.driver})"
    relay = "" if cell.relay == "none" else f" via {cell.relay} relay"
    more = ", warm" if cell.warm else ", again" if cell.control else ""
    preload = ", preloaded" if cell.preload else ""
    return f"{cell.executor} · {cell.pattern}{driver}{relay}{preload}{more}"


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def at(seconds: float) -> str:
    """Return the time of day in ``seconds`` seconds, in the machine's time zone."""
    return time.strftime("%H:%M", time.localtime(time.time() + max(0.0, seconds)))


def end(began: float, done: int, of: int) -> str:
    """Return the time of day at which all will be done, if the rest takes as long as what is done.

    ``began`` is a reading of the monotonic clock, in seconds; ``done`` is at least 1.
    """
    return at((time.monotonic() - began) / done * (of - done))


class Estimate:
    """The time left, estimated from the DAG runs so far; before the first one ends, from the plan."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._left: list[PlannedRun] = []
        self._ratios: list[float] = []
        self._since = time.monotonic()

    def plan(self, runs: list[PlannedRun]) -> None:
        """Begin with these planned runs."""
        self._left = list(runs)
        self._since = time.monotonic()

    def began(self) -> None:
        """Note that the first of the remaining runs has started. The time before the very first one does not count."""
        if not self._ratios:
            self._since = time.monotonic() - RESTARTING

    def ended(self) -> None:
        """Note that the first of the remaining runs has ended."""
        now = time.monotonic()
        self._ratios.append((now - self._since) / self._guess(self._left.pop(0).cell))
        self._since = now

    def seconds(self) -> float:
        """Return the seconds left."""
        expected = self._expected()
        # The run in progress may take longer than expected; this does not shorten the runs after it.
        spent = min(time.monotonic() - self._since, expected[0]) if expected else 0.0
        return sum(expected) - spent

    def seconds_of_this_one(self) -> float:
        """Return the seconds left for the run in progress."""
        return self.seconds() - sum(self._expected()[1:])

    def _expected(self) -> list[float]:
        ratio = sum(self._ratios) / len(self._ratios) if self._ratios else 1.0
        return [ratio * self._guess(run.cell) for run in self._left]

    def _guess(self, cell: Cell) -> float:
        around = AROUND - RESTARTING if cell.warm else AROUND
        return around + cell.tasks / self._slots * (cell.hold + START_OF_A_TASK)


class ProgressView:
    """Implements :class:`rig.experiment.progress.Progress` on a terminal, or with plain lines if there is none.

    Without a terminal, ``said_every`` is the number of seconds between two lines about the tasks of a DAG run; None for
    no such lines.
    """

    def __init__(self, console: Console, slots: int, *, said_every: float | None = None) -> None:
        self._console = console
        self._said_every = None if console.is_terminal else said_every
        self._estimate = Estimate(slots)
        self._services: dict[str, tuple[Step, str]] = {}
        self._total = self._done = 0
        self._run: PlannedRun | None = None
        self._began = self._said = 0.0      # when this DAG run began, and when a line about its tasks was the last one
        self._tasks = (0, 0)
        self._now: Sample | None = None
        self._curve: deque[int] = deque(maxlen=HISTORY)
        self._curve_at = 0.0
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._live.stop()

    def step(self, service: str, step: Step, detail: str) -> None:
        known = self._services.get(service, ("", ""))[0]
        self._services[service] = (step, detail)
        if not self._console.is_terminal and step != known:
            self._console.print(Text(f"{service}: {step} {detail}".rstrip()), soft_wrap=True)

    def planned(self, runs: list[PlannedRun]) -> None:
        self._total, self._done = len(runs), 0
        self._estimate.plan(runs)
        seconds = self._estimate.seconds()
        self.note(f"{plural(len(runs), 'DAG run')}, about {clock(seconds)}: until {at(seconds)}")

    def started(self, run: PlannedRun) -> None:
        self._run, self._tasks, self._now = run, (0, 0), None
        self._began = self._said = time.monotonic()
        self._curve.clear()
        self._estimate.began()
        if not self._console.is_terminal:
            self.note(f"{self._done + 1} of {self._total}: {cell_name(run.cell)} ({run.cell.purpose}), until about "
                      f"{at(self._estimate.seconds_of_this_one())}; "
                      f"all until about {at(self._estimate.seconds())}")

    def sample(self, sample: Sample) -> None:
        self._now = sample
        if sample.t - self._curve_at >= CURVE_EVERY:
            self._curve.append(len(sample.open))
            self._curve_at = sample.t

    def tasks(self, running: int, ended: int) -> None:
        self._tasks = (running, ended)
        now = time.monotonic()
        if self._run and self._said_every is not None and now - self._said >= self._said_every:
            self._said = now
            self.note(f"{ended:,} of {self._run.cell.tasks:,} tasks ended, {running} running; about "
                      f"{clock(self._seconds_left(self._run.cell.tasks, ended))} left")

    def _seconds_left(self, tasks: int, ended: int) -> float:
        """Return the seconds left for all DAG runs; those of the one in progress by the tasks that have ended."""
        expected = self._estimate.seconds_of_this_one()
        seconds = (time.monotonic() - self._began) / ended * (tasks - ended) if ended else expected
        return self._estimate.seconds() - expected + seconds

    def ended(self, run: PlannedRun, record: DagRunRecord) -> None:
        self._done += 1
        self._run = None
        self._estimate.ended()
        self._console.print(_verdict(run, record), soft_wrap=True)

    def note(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def _render(self) -> RenderableType:
        body: list[RenderableType] = [self._services_line()]
        if self._total:
            body += [Text(""), self._overall()]
        if self._run:
            body += [Text(""), self._current(self._run)]
        return Panel(Group(*body), title="neo4j connections under airflow", border_style="blue", padding=(0, 1))

    def _services_line(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        for name, (step, detail) in self._services.items():
            sign, style = LOOK[step]
            grid.add_row(Text(sign, style), name, Text(f"{step} {detail}".strip(), "dim"))
        return grid

    def _overall(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(ProgressBar(total=self._total, completed=self._done, width=40),
                     f"{self._done} of {self._total} DAG runs",
                     f"about {clock(self._estimate.seconds())} left, until {at(self._estimate.seconds())}")
        return grid

    def _current(self, run: PlannedRun) -> RenderableType:
        running, ended = self._tasks
        grid = Table.grid(padding=(0, 2))
        grid.add_row(Text(run.cell.purpose, "dim"), f"until about {at(self._estimate.seconds_of_this_one())}")
        grid.add_row(Text(cell_name(run.cell), "bold"), f"{ended} of {run.cell.tasks} tasks ended, {running} running")
        grid.add_row("Bolt connections at the server", self._gauge())
        return grid

    def _gauge(self) -> Text:
        if self._now is None:
            return Text("not seen yet", "dim")
        busy, now = len(self._now.running), len(self._now.open)
        most = max([*self._curve, now, 1])
        curve = "".join(BARS[value * (len(BARS) - 1) // most] for value in self._curve)
        return Text.assemble((f"{now:4d}", "bold"), f" open, {now - busy} idle  ", (curve, "cyan"))


def _verdict(run: PlannedRun, record: DagRunRecord) -> Text:
    seconds = clock(record.ended_at - record.started_at)
    sign, style = ("✓", "green") if record.state == "success" else ("✗", "red")
    line = Text.assemble((sign, style), f" {cell_name(run.cell)}: {record.state} in {seconds}, {_opened(record)}")
    if record.reason and record.state != "success":
        line.append(f"\n  {record.reason}", "red")
    return line


def _opened(record: DagRunRecord) -> str:
    if record.opened is None:
        return f"connections not counted: {record.opened_reason}"
    said = f"{'' if record.opened_exact else 'at least '}{plural(record.opened, 'connection')} opened"
    if record.counted_by != "tap":
        return said
    differs = record.ids_opened not in {None, record.opened}
    return f"{said}, counted by the tap{f' ({record.ids_opened} by the ids of the server)' if differs else ''}"
