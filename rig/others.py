"""Connections of others at the server that is counted: the words for them, the same in every place."""


def seen(count: int | None) -> str | None:
    """Say how many connections of others were seen at the server, None where none were."""
    if not count:
        return None
    return "1 connection of others was seen" if count == 1 else f"{count:,} connections of others were seen"


def why_lower_bound(count: int | None) -> str:
    """Say why no more than a lower bound is known of what was opened, by how many connections of others were seen."""
    return f"{seen(count) or 'Others use the server too'}. What was opened is a lower bound, marked ≥"
