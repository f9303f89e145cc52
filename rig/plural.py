"""Numbers with their nouns."""


def plural(count: int, word: str) -> str:
    """Return "1 task" or "2 tasks"."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
