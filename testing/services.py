"""Real services of the stack, outside a stack: the rig's own code starts, awaits and stops them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from rig.stack import processes
from rig.stack.processes import Started
from rig.stack.service import Service, last_lines

LIMIT = 300     # seconds: a loaded machine needs a minute for a Neo4j
PATIENCE = 5    # seconds for a clean end; nothing of the service is kept


@contextmanager
def running_service(service: Service, log: Path) -> Iterator[Started]:
    """Run a service until the block ends. The service is ready when the block begins."""
    started = processes.start(service.command, env=service.env, log=log, cwd=service.cwd, user=service.user)
    try:
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(LIMIT), wait=wait_fixed(0.1))(
            lambda: _problem(service, started, log))
        yield started
    finally:
        processes.stop(started, timeout=PATIENCE, sign=service.stop_signal)


def _problem(service: Service, started: Started, log: Path) -> str | None:
    assert processes.find(started), f"{service.name} has ended: {last_lines(log)}"
    return service.check()
