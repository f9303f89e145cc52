"""Connections that outlive their tasks: which task owns a connection, and what is left after a while."""

from collections.abc import Callable, Iterable

from patterns import identity
from rig.metrics import rows
from rig.metrics.gauges import all_tasks, observation, times
from rig.metrics.missing import Missing
from rig.metrics.raw import Repeat
from rig.records import Connection
from worker_init.upstream import USER_AGENT as RELAY_AGENT

TOLERANCE_SECONDS = 1.0
"""The sampler stops 30 s after the end of the last task, plus or minus one interval of a slow server."""


def left(repeat: Repeat, after: float) -> int:
    """Return how many connections are still open ``after`` seconds after their task ended.

    A connection without a known owner belongs to the task of the window that ended last. A connection that no sample
    saw was gone before the next sample, so it does not count as left. Raises Missing if the observation ended too
    early.
    """
    end_of = _Owners(repeat)
    observation(repeat)
    last = repeat.samples[-1]
    still_open = set(last.open)
    count = 0
    for connection in known_connections(repeat):
        moment = end_of(connection) + after
        if connection.id in still_open and last.t < moment - TOLERANCE_SECONDS:
            raise Missing(f"observed for {last.t - moment + after:.1f} s after the owning task, "
                          f"{after:.0f} s are needed")
        count += connection.id in still_open or connection.last_seen >= moment
    return count


def known_connections(repeat: Repeat) -> Iterable[Connection]:
    """Return the record of each connection that was seen. Raises Missing if some have none."""
    known = {connection.id: connection for connection in repeat.connections}
    sampled = {id_ for sample in repeat.samples for id_ in sample.open}
    if unknown := sampled - known.keys():
        raise Missing(f"{len(unknown)} sampled connections have no record")
    return [known[id_] for id_ in sorted(sampled)]


def kept_by_a_shared_driver(repeat: Repeat) -> Callable[[int], bool]:
    """Return a test for connections that a shared driver opened: it keeps them until the idle timeout."""
    agents = {connection.id: connection.user_agent for connection in repeat.connections}
    return lambda id_: agents.get(id_) == RELAY_AGENT


class _Owners:
    """When the task that owns a connection ended, in seconds since the epoch."""

    def __init__(self, repeat: Repeat) -> None:
        tasks = all_tasks(repeat)
        ends = times(tasks, lambda task: task.ended_at, "end")
        self._last = max(ends)
        # Sorted by their ends: a process id that was used twice belongs to the later task.
        self._ends = {rows.process(task.row): end
                      for end, task in sorted(zip(ends, tasks, strict=True), key=lambda pair: pair[0])
                      if task.row is not None}

    def __call__(self, connection: Connection) -> float:
        agent = identity.parse(connection.user_agent)
        return self._ends.get((agent.host, agent.task_pid), self._last) if agent else self._last
