"""Prints the table of a client's machine for docs/relay.md: ``python -m worker_init.client_diagram``.

It has a diagram of the states, then each state with its events, and what must be undone when a client goes.
"""

from collections.abc import Iterator

from worker_init.client_table import LEAVING, MEANING, TABLE, Do, Event, Row, State

# These are the same in every state. The table has a column for them; arrows would hide all the others.
_ANYWHERE = frozenset((Event.ENDED, Event.BROKEN, Event.OVERDUE, Event.VIOLATION))


def text() -> str:
    """Return the whole section."""
    return "\n".join((*_diagram(), "", *_states(), "", *_rows()))


def _diagram() -> Iterator[str]:
    yield from ("```mermaid", "stateDiagram-v2", f"    [*] --> {State.OPENING.name}")
    for state, rows in TABLE.items():
        arrows: dict[State, list[Event]] = {}
        for event, row in rows.items():
            if event not in _ANYWHERE and row.to is not state:
                arrows.setdefault(row.to, []).append(event)
        for to, events in arrows.items():
            yield f"    {state.name} --> {to.name}: {'<br>'.join(event.name for event in events)}"
    yield from (f"    {State.CLOSING.name} --> {State.CLOSED.name}: ENDED", f"    {State.CLOSED.name} --> [*]", "```")


def _states() -> Iterator[str]:
    yield from ("| state | where the client stands | what must be undone when it goes |", "|---|---|---|")
    for state in State:
        yield f"| {state.name} | {MEANING[state]} | {_names(LEAVING[state]) or 'nothing'} |"


def _rows() -> Iterator[str]:
    yield from ("| state | event | what is done, in order | state after it |", "|---|---|---|---|")
    for state, rows in TABLE.items():
        together: dict[Row, list[Event]] = {}
        for event, row in rows.items():
            together.setdefault(row, []).append(event)
        for row, events in together.items():
            after = "the same" if row.to is state else row.to.name
            names = ", ".join(event.name for event in events)
            yield f"| {state.name} | {names} | {_names(row.do) or 'nothing'} | {after} |"


def _names(do: tuple[Do, ...]) -> str:
    return ", ".join(each.name for each in do)


if __name__ == "__main__":
    print(text())
