"""Files that are written whole or not at all.

Standard library only: ``make env`` needs it before anything is installed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError of the block name the file: that of a write on a full disk does not, and room is needed there."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path``; what was written there takes its place when the block ends without an error.

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
    """Write a text file, UTF-8. Raises OSError where that cannot be done."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_private(path: Path, text: str) -> None:
    """Write a text file that only this user can read, UTF-8. Raises OSError where that cannot be done."""
    with replacing(path) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
