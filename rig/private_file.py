"""Files for nobody else's eyes. Standard library only: ``make env`` needs it before anything is installed."""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, whole or not at all. Raises OSError where that cannot be done."""
    part = path.with_name(f"{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)
