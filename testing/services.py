"""Real services of the stack, outside a stack: the rig's own code starts, awaits and stops them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from rig import interrupts
from rig.errors import Hung, ServiceDied
from rig.stack import processes
from rig.stack.processes import Started
from rig.stack.service import Service, reasons

LIMIT = 300.0   # seconds: a loaded machine needs a minute for a Neo4j
PATIENCE = 5.0  # seconds for a clean end; nothing of the service is kept


@contextmanager
def running_service(service: Service, log: Path) -> Iterator[Started]:
    """Run a service until the block ends. The service is ready when the block begins."""
    started = start(service, log)
    try:
        yield started
    finally:
        _stop(service, started)


def start(service: Service, log: Path, limit: float = LIMIT) -> Started:
    """Start a service; return once it serves. After an error or Ctrl-C the service has been stopped again.

    Raises ServiceDied with its log's reasons if it ends instead, Hung if it does not serve within ``limit`` seconds.
    """
    with ExitStack() as unless_it_serves:
        with interrupts.put_off():      # else Ctrl-C could come before it is known what to stop
            started = processes.start(service.command, env=service.env, log=log, cwd=service.cwd, user=service.user)
            unless_it_serves.callback(_stop, service, started)
        _wait(service, started, log, limit)
        unless_it_serves.pop_all()
    return started


def _wait(service: Service, started: Started, log: Path, limit: float) -> None:
    try:
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(limit), wait=wait_fixed(0.1))(
            lambda: _problem(service, started, log))
    except RetryError as error:
        raise Hung(f"{service.name} does not serve after {limit:g} s: {error.last_attempt.result()}; its log: {log}",
                   detail=reasons(log)) from None


def _stop(service: Service, started: Started) -> None:
    with interrupts.put_off():      # a second Ctrl-C would leave it behind
        processes.stop(started, timeout=PATIENCE, sign=service.stop_signal)


def _problem(service: Service, started: Started, log: Path) -> str | None:
    if not processes.find(started):
        raise ServiceDied(f"{service.name} has ended instead of serving; its log: {log}", detail=reasons(log))
    return service.check()
