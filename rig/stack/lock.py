"""Only one ``rig`` at a time changes the stack of a folder. Others are told which one does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from rig.errors import BadInput
from rig.stack import processes

LOCK_FILE = ".stack.lock"
HOLDER_FILE = ".stack.holder.json"


class Holder(BaseModel):
    """The holder of the lock, for the message to the ``rig`` that does not get it."""

    process: processes.Started
    command: str


@contextmanager
def hold(data_dir: Path, command: str) -> Iterator[None]:
    """Hold the stack's lock. Raises BadInput, which names the holder, if another ``rig`` has it."""
    _make(data_dir)
    lock = FileLock(data_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise _taken(data_dir, holder_of(data_dir) or "another rig") from error
    try:
        holder = Holder(process=processes.this_process(), command=command)
        (data_dir / HOLDER_FILE).write_text(holder.model_dump_json(), encoding="utf-8")
        yield
    finally:
        (data_dir / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def is_held(data_dir: Path) -> bool:
    """Return whether a running ``rig`` holds the lock."""
    return holder_of(data_dir) is not None


def holder_of(data_dir: Path) -> str | None:
    """Return the command and the pid of the running ``rig`` that holds the lock; None if there is none."""
    holder = _read(data_dir)
    if holder is None or processes.find(holder.process) is None:
        return None
    return f"`{holder.command}` (pid {holder.process.pid})"


def require_free(data_dir: Path) -> None:
    """Raise BadInput, which names the holder, if a running ``rig`` holds the lock."""
    if holder := holder_of(data_dir):
        raise _taken(data_dir, holder)


def _taken(data_dir: Path, holder: str) -> BadInput:
    return BadInput(f"{holder} is using the stack in {data_dir}", "wait for it or stop it with Ctrl-C there")


def _make(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        probe = data_dir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"the folder {data_dir} cannot be written: {error.strerror}",
                       "make it writable, or set RIG_DATA_DIR to another folder") from error


def _read(data_dir: Path) -> Holder | None:
    try:
        return Holder.model_validate_json((data_dir / HOLDER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
