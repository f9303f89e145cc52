"""Upstreams whose Bolt is too old to be shared: tasks connect to them by themselves.

A server may be upgraded at any time. So an upstream of the worker's environment is asked again and again, over its own
connection, and an upstream that tasks ask for is asked again by the next task. Either is shared as soon as possible.
"""

import asyncio
import logging
from collections.abc import Callable

from worker_init.errors import BadSetting, TooOld, UpstreamFailure
from worker_init.routing import Place
from worker_init.targets import Target
from worker_init.upstream import Upstream

log = logging.getLogger(__name__)


class Unshared:
    """All unshared upstreams of one host, and why. ``fixed`` has the upstreams of the worker's environment by number.

    Each is asked again every ``seconds``, while ``may_ask``; ``timeout`` (in seconds) limits the answer. ``changed`` is
    called when an upstream is added or removed.
    """

    def __init__(self, seconds: float, timeout: float, *, may_ask: Callable[[], bool],
                 changed: Callable[[], None]) -> None:
        self.fixed: dict[int, Target] = {}
        self._seconds = seconds
        self._timeout = timeout
        self._may_ask = may_ask
        self._changed = changed
        self._why: dict[Target, str] = {}
        self._said: set[Target] = set()
        self._is_quiet = False
        self._timers: dict[Target, asyncio.TimerHandle] = {}
        self._looking: set[asyncio.Task[None]] = set()

    def why(self, target: Target) -> str | None:
        """Return why tasks connect to an upstream by themselves; None if it is shared."""
        return self._why.get(target)

    def numbers(self) -> dict[int, str]:
        """Return which upstreams of the worker's environment are not shared, and why."""
        return {at: self._why[target] for at, target in self.fixed.items() if target in self._why}

    def heard(self, target: Target, failure: TooOld | None) -> None:
        """Note what a server said on a connection: that it is too old, or (None) that it is not."""
        if failure and target not in self._why:
            self._why[target] = failure.message
            self._wait(target)
            if target not in self._said and not self._is_quiet:
                log.warning("tasks connect by themselves: %s", failure.message)
            self._said.add(target)
            self._changed()
        elif not failure and target in self._why:
            log.info("%r speaks enough Bolt now: tasks share its connections", target)
            self._said.discard(target)
            self._forget(target)
            self._changed()

    async def look(self, seconds: float) -> None:
        """Ask every server of the worker's environment, for at most so many seconds. A later answer counts too.

        The worker reports what is found in this time.
        """
        if not self._may_ask():
            return
        looks = [self._start_look(target) for target in dict.fromkeys(self.fixed.values())]
        if looks:
            self._is_quiet = True
            await asyncio.wait(looks, timeout=seconds)
            self._is_quiet = False
        self._changed()

    def close(self) -> None:
        """Stop asking."""
        for timer in self._timers.values():
            timer.cancel()
        for task in self._looking:
            task.cancel()

    def _wait(self, target: Target) -> None:
        self._timers[target] = asyncio.get_running_loop().call_later(self._seconds, self._time_is_up, target)

    def _time_is_up(self, target: Target) -> None:
        if target not in self.fixed.values():
            self._forget(target)
            return
        self._wait(target)
        if self._may_ask():
            self._start_look(target)

    def _forget(self, target: Target) -> None:
        del self._why[target]
        self._timers.pop(target).cancel()

    def _start_look(self, target: Target) -> "asyncio.Task[None]":
        look = asyncio.get_running_loop().create_task(self._look_at(target))
        self._looking.add(look)
        look.add_done_callback(self._looking.discard)
        return look

    async def _look_at(self, target: Target) -> None:
        """Open a connection that nobody is lent. Any other failure is reported to the tasks that meet it."""
        try:
            upstream = Upstream(target, self._timeout, lambda failure: self.heard(target, failure))
        except BadSetting as error:
            log.warning("%s", error)
            return
        try:
            (await upstream.connect(Place(upstream.seed))).close()
        except UpstreamFailure as failure:
            log.debug("%r was asked which Bolt it speaks: %s", target, failure)
        finally:
            await upstream.close()
