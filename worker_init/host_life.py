"""The life of a driver host, as the worker's supervisor sees it: one table, without side effects.

What happens comes in as an :class:`Event`; what must be done goes out as an :class:`Action`. Processes, sockets and
clocks are in :mod:`worker_init.supervisor`. ``TABLE`` is complete: a pair of state and event that is not in it cannot
happen, and is an error if it does.

Tasks wait in the listening sockets as long as a host is about to serve them. If no host could be started for a while,
or if there will be none, tasks are refused at once: see ``REFUSING``.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from worker_init.errors import Unforeseen


class State(Enum):
    """Where the host is in its life."""

    NEW = "new"                 # none was asked for yet
    STARTING = "starting"       # its process is getting ready
    SLOW = "slow"               # it is not ready in time; it may still be
    SERVING = "serving"
    ENDING = "ending"           # it should end, and is killed if it does not
    DEAD = "dead"               # it has ended; the next one starts after a pause
    DOWN = "down"               # several could not start; the next one is tried after a pause
    TRYING = "trying"           # the next one is getting ready, while tasks are refused
    DROPPED = "dropped"         # it should end, while tasks are refused
    UNFIT = "unfit"             # its self-test ran and failed: no other host would serve
    BROKEN = "broken"           # the supervisor itself has failed
    STOPPING = "stopping"       # it was told to stop; transactions may end
    KILLED = "killed"
    STOPPED = "stopped"


class Event(Enum):
    """What happens to the host, or is asked for."""

    START = "start asked"
    SPAWNED = "spawned"
    READY = "ready"
    CHANNEL_CLOSED = "channel closed"
    EXITED = "exited"                       # a host that was ready
    FAILED = "start failed"                 # no process, or one that ended before it was ready
    FAILED_TOO_OFTEN = "start failed again" # the same, and tasks have waited for long enough
    FOUND_UNFIT = "found unfit"
    TIME = "time is up"
    GROWN = "pool grows"
    FOLDER_GONE = "folder gone"
    STOP = "stop asked"
    KILL = "kill asked"
    TROUBLE = "supervisor failed"


class Action(Enum):
    """What the supervisor must do. Each action may be done twice."""

    SPAWN = "spawn"
    INTRODUCE = "send settings and endpoints"
    ANNOUNCE = "send new endpoints"
    REFUSE = "refuse tasks"
    LISTEN = "let tasks connect"
    MOVE = "make another folder"
    TELL_STOP = "tell to stop"
    KILL = "kill"
    END = "close sockets, remove folder"


class Row(NamedTuple):
    """What some events do in some states. If ``then`` is None, the state stays the same."""

    states: tuple[State, ...]
    events: tuple[Event, ...]
    then: State | None
    actions: tuple[Action, ...] = ()


_S, _E, _A = State, Event, Action
_ENDS = (_E.EXITED, _E.FAILED, _E.FAILED_TOO_OFTEN, _E.FOUND_UNFIT)
_NO_HOST = (_S.DEAD, _S.DOWN)
_OVER = (_S.UNFIT, _S.BROKEN)
_PROMPT = (_S.STARTING, _S.SLOW)
_LIVING = (*_PROMPT, _S.TRYING, _S.SERVING)

TABLE = (
    # A start. After SPAWN comes SPAWNED or a failure.
    Row((_S.NEW,), (_E.START,), _S.STARTING, (_A.SPAWN,)),
    Row((*_PROMPT, _S.TRYING), (_E.SPAWNED,), None, (_A.INTRODUCE,)),
    Row((_S.STARTING,), (_E.TIME,), _S.SLOW),
    Row(_PROMPT, (_E.READY,), _S.SERVING),
    Row((_S.TRYING,), (_E.READY,), _S.SERVING, (_A.LISTEN,)),
    Row((_S.SLOW,), (_E.TIME,), _S.ENDING, (_A.KILL,)),
    Row((_S.TRYING,), (_E.TIME,), _S.DROPPED, (_A.KILL,)),
    # An end that nobody asked for.
    Row((_S.SERVING, _S.ENDING), (_E.EXITED,), _S.DEAD),
    Row((*_PROMPT, _S.ENDING), (_E.FAILED,), _S.DEAD),
    Row((*_PROMPT, _S.ENDING), (_E.FAILED_TOO_OFTEN,), _S.DOWN, (_A.REFUSE,)),
    Row((_S.TRYING, _S.DROPPED), (_E.FAILED, _E.FAILED_TOO_OFTEN), _S.DOWN, (_A.REFUSE,)),
    Row((*_LIVING, _S.ENDING, _S.DROPPED), (_E.FOUND_UNFIT,), _S.UNFIT, (_A.REFUSE,)),
    Row((*_PROMPT, _S.SERVING), (_E.CHANNEL_CLOSED,), _S.ENDING),
    Row((_S.TRYING,), (_E.CHANNEL_CLOSED,), _S.DROPPED),
    Row((_S.ENDING, _S.DROPPED), (_E.TIME,), None, (_A.KILL,)),
    Row((_S.ENDING, _S.DROPPED), (_E.CHANNEL_CLOSED, _E.READY, _E.FOLDER_GONE), None),
    Row((_S.ENDING, _S.DROPPED), (_E.GROWN,), None),
    # The next one.
    Row((_S.DEAD,), (_E.TIME,), _S.STARTING, (_A.SPAWN,)),
    Row((_S.DOWN,), (_E.TIME,), _S.TRYING, (_A.SPAWN,)),
    # While it lives.
    Row(_LIVING, (_E.GROWN,), None, (_A.ANNOUNCE,)),
    Row((_S.NEW, _S.DEAD), (_E.GROWN,), None),
    Row((_S.DOWN, *_OVER), (_E.GROWN,), None, (_A.REFUSE,)),
    Row((*_LIVING, *_NO_HOST), (_E.FOLDER_GONE,), None, (_A.MOVE,)),
    Row((_S.SERVING,), (_E.READY,), None),
    # An end that was asked for.
    Row(_LIVING, (_E.STOP,), _S.STOPPING, (_A.TELL_STOP,)),
    Row((_S.ENDING, _S.DROPPED), (_E.STOP,), _S.KILLED, (_A.KILL,)),
    Row((*_LIVING, _S.ENDING, _S.DROPPED, _S.STOPPING), (_E.KILL,), _S.KILLED, (_A.KILL,)),
    Row((_S.NEW, *_NO_HOST, *_OVER), (_E.STOP, _E.KILL), _S.STOPPED, (_A.END,)),
    Row((_S.STOPPING,), (_E.TIME,), _S.KILLED, (_A.KILL,)),
    Row((_S.STOPPING, _S.KILLED), _ENDS, _S.STOPPED, (_A.END,)),
    Row((_S.KILLED,), (_E.TIME,), _S.STOPPED, (_A.END,)),
    Row((_S.STOPPING, _S.KILLED), (_E.READY, _E.CHANNEL_CLOSED, _E.GROWN, _E.FOLDER_GONE, _E.STOP), None),
    Row((_S.KILLED,), (_E.KILL,), None),
    # Nothing can be relied on: no host may outlive its supervisor, and no task may wait for one.
    Row((_S.NEW, *_LIVING, _S.ENDING, _S.DROPPED, *_NO_HOST), (_E.TROUBLE,), _S.BROKEN, (_A.REFUSE, _A.KILL)),
    Row((_S.STOPPING, _S.KILLED), (_E.TROUBLE,), _S.STOPPED, (_A.KILL, _A.END)),
    Row(_OVER, (*_ENDS, _E.CHANNEL_CLOSED, _E.FOLDER_GONE, _E.TROUBLE), None),
    Row((_S.BROKEN,), (_E.READY,), None),
    Row((_S.STOPPED,), tuple(Event), None),
)
# In these states no host serves and none is about to: tasks must not wait.
REFUSING = frozenset((_S.DOWN, _S.TRYING, _S.DROPPED, _S.UNFIT, _S.BROKEN, _S.STOPPED))
# In these states a worker that starts knows the outcome.
SETTLED = frozenset((_S.SERVING, _S.DOWN, _S.UNFIT, _S.BROKEN, _S.STOPPED))


def _compiled() -> dict[tuple[State, Event], tuple[State, tuple[Action, ...]]]:
    found: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {}
    for state, event, row in each():
        if (state, event) in found:
            raise ValueError(f"two rows for {state} and {event}")
        found[state, event] = (row.then or state, row.actions)
    return found


def each() -> Iterator[tuple[State, Event, Row]]:
    """Yield every pair of state and event that may happen, with its row."""
    return ((state, event, row) for row in TABLE for state in row.states for event in row.events)


_NEXT = _compiled()

SHORTEST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
# A host that lived for this long has not died because of its start.
HEALTHY_SECONDS = 5.0
# How many starts may fail before tasks are refused.
TRIES = 3
# A host that is not ready so long after it became slow never will be. No task waits longer than this.
HUNG_SECONDS = 60.0
# How soon a host must end after it closed its channel, was killed, or let its transactions end.
END_SECONDS = 5.0


class Patience(NamedTuple):
    """The settings that a host's life depends on, in seconds."""

    start: float
    drain: float


class HostLife:
    """The machine: its state and its counters. Times are a monotonic clock's, in seconds."""

    def __init__(self, patience: Patience) -> None:
        self.state = State.NEW
        self.deadline: float | None = None
        self.restarts = 0
        self.pause = SHORTEST_PAUSE
        self._patience = patience
        self._spawns = 0
        self._failures = 0
        self._has_served = False
        self._is_ready = False
        self._started_at = 0.0
        self._outage_since: float | None = None

    def __repr__(self) -> str:
        return f"HostLife({self.state.value}, {self._failures} failures)"

    @property
    def is_refusing(self) -> bool:
        """Whether tasks are refused, and so should not be told of a host."""
        return self.state in REFUSING

    def feed(self, event: Event, now: float) -> tuple[Action, ...]:
        """Handle an event; return the actions to carry out, in order. Raises Unforeseen if the table has no row."""
        try:
            then, actions = _NEXT[self.state, event]
        except KeyError:
            raise Unforeseen(f"{event.value} while {self.state.value}") from None
        self._count(event, then, now)
        if then is not self.state or event is Event.TIME:
            self.state = then
            self.deadline = self._deadline(now)
        return actions

    def ended(self, now: float, *, unfit: bool = False) -> Event:
        """Return the event that stands for a failed start or for the end of a process."""
        if unfit:
            return Event.FOUND_UNFIT
        if self._is_ready:
            return Event.EXITED
        outage = now - self._outage_since if self._outage_since is not None else 0.0
        has_tried = self._failures + 1 >= TRIES and (not self._has_served or outage >= self._patience.start)
        return Event.FAILED_TOO_OFTEN if has_tried or outage >= HUNG_SECONDS else Event.FAILED

    def _count(self, event: Event, then: State, now: float) -> None:
        if event is Event.START:
            self._outage_since = now
        elif event is Event.SPAWNED:
            self._spawns += 1
            self.restarts = self._spawns - 1
            self._started_at, self._is_ready = now, False
        elif then is State.SERVING and self.state is not State.SERVING:
            self._is_ready = self._has_served = True
            self._failures, self._outage_since = 0, None
        elif event in _ENDS:
            self._count_end(event, now)

    def _count_end(self, event: Event, now: float) -> None:
        has_lived = self._is_ready and now - self._started_at > HEALTHY_SECONDS
        self.pause = SHORTEST_PAUSE if has_lived else min(self.pause * 2, LONGEST_PAUSE)
        self._failures += event in (Event.FAILED, Event.FAILED_TOO_OFTEN)
        self._is_ready = False
        if self._outage_since is None:
            self._outage_since = now

    def _deadline(self, now: float) -> float | None:
        seconds = {
            State.STARTING: self._patience.start, State.SLOW: HUNG_SECONDS, State.TRYING: HUNG_SECONDS,
            State.ENDING: END_SECONDS, State.DROPPED: END_SECONDS, State.DEAD: self.pause, State.DOWN: self.pause,
            State.STOPPING: self._patience.drain + END_SECONDS, State.KILLED: END_SECONDS}.get(self.state)
        return None if seconds is None else now + seconds


def diagram() -> str:
    """Return every change of state as a state diagram in Mermaid."""
    arrows: dict[tuple[State, State, tuple[Action, ...]], list[str]] = {}
    for state, event, row in each():
        if row.then and row.then is not state:
            arrows.setdefault((state, row.then, row.actions), []).append(event.value)
    lines = [f"    {state.value} --> {then.value}: {' or '.join(events)}{f' / {_told(actions)}' * bool(actions)}"
             for (state, then, actions), events in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.NEW.value}", *lines,
                      f"    {State.STOPPED.value} --> [*]"])


def table() -> str:
    """Return ``TABLE`` in Markdown, row by row."""
    rows = [f"| {_told(row.states)} | {_told(row.events)} | {row.then.value if row.then else 'the same'} "
            f"| {_told(row.actions)} |" for row in TABLE if row.events != tuple(Event)]
    return "\n".join(["| in these states | when this happens | the state is then | and this is done |",
                      "|---|---|---|---|", *rows])


def _told(these: tuple[Enum, ...]) -> str:
    return ", ".join(each.value for each in these)


def documentation() -> str:
    """Return the section of docs/relay.md that is made from the table."""
    return f"```mermaid\n{diagram()}\n```\n\n{table()}\n"


if __name__ == "__main__":
    print(documentation(), end="")
