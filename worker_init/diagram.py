"""A state table as a Mermaid diagram, for docs/relay.md. A test checks that the two are equal."""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)


def mermaid(table: Mapping[State, Mapping[Event, State]], start: State) -> str:
    """Return the diagram in a fence that GitHub draws. Each pair of states has one arrow, with all its events."""
    lines = [f"    [*] --> {start}"]
    for state, row in table.items():
        arrows: dict[State, list[str]] = {}
        for event, after in row.items():
            arrows.setdefault(after, []).append(str(event))
        lines += [f"    {state} --> {after}: {'<br>'.join(events)}" for after, events in arrows.items()]
        if not row:
            lines.append(f"    {state} --> [*]")
    return "\n".join(("```mermaid", "stateDiagram-v2", *lines, "```"))
