"""Files that are written completely or not at all.

Only the standard library is used: ``make env`` needs this before anything is installed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError of the block: when writing to a full disk, the error does not have it."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path``. If the block ends without an error, what was written there replaces ``path``.

    What an earlier process left there is removed first, and nothing is left there afterwards.
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with naming(path):
            yield part
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file in UTF-8. Raises OSError if it cannot be written."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_private(path: Path, text: str) -> None:
    """Write a text file in UTF-8 that only this user can read. Raises OSError if it cannot be written."""
    with replacing(path) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
