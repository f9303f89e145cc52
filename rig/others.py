"""Connections of others at the server that is counted: the words for them, the same in every place."""

from rig.plural import plural


def seen(count: int | None) -> str | None:
    """Return how many connections of others were seen at the server, as a clause; None if there were none."""
    return f"{plural(count, 'connection')} of others {'was' if count == 1 else 'were'} seen" if count else None


def why_lower_bound(count: int | None) -> str:
    """Return why only a lower bound is known of the connections opened: ``count`` connections of others were seen."""
    return f"{seen(count) or 'Others use the server too'}. What was opened is a lower bound, marked ≥"
