"""Connections of others at the server that is counted: the words for them, the same in every place."""

from rig.plural import plural


def seen(count: int | None, within: str = "") -> str | None:
    """Return how many connections of others were seen at the server, as a clause; None if there were none.

    If ``count`` is the highest of several, ``within`` says of what, such as " in one DAG run".
    """
    return f"{plural(count, 'connection')} of others {'was' if count == 1 else 'were'} seen{within}" if count else None


def why_lower_bound(count: int | None, within: str = "") -> str:
    """Return why only a lower bound is known of the connections opened: so many of others were seen (:func:`seen`)."""
    return f"{seen(count, within) or 'Others use the server too'}. What was opened is a lower bound, marked ≥"
