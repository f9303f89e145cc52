"""The runs of a data folder: made, found by name, listed."""

import time
from collections.abc import Iterator
from pathlib import Path

from rig import records
from rig.errors import BadInput
from rig.records import COMPARISON_FILE, LOAD_FILE, RunRecord
from rig.whole_file import replacing

LATEST = "latest"


def new_folder(data_dir: Path, profile: str) -> Path:
    """Make the folder of a new run, named by the time (UTC) and the profile."""
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{profile}"
    folder = data_dir / name
    folder.mkdir(parents=True)
    return folder


def find(data_dir: Path, name: str) -> Path:
    """Return a run's folder by its id, by ``latest``, or by a path. Raises BadInput where there is none."""
    for folder in (data_dir / name, Path(name)):
        if any((folder / file).exists() for file in (records.RUN_FILE, LOAD_FILE, COMPARISON_FILE)):
            return folder.resolve()
    known = sorted([*_folders(data_dir), *load_folders(data_dir),
                    *(path.parent for path in data_dir.glob(f"*/{COMPARISON_FILE}"))])
    if name == LATEST and known:
        return known[-1].resolve()
    listed = f"runs here: {', '.join(folder.name for folder in known)}" if known \
        else "there are no runs yet: `rig compare` makes one"
    raise BadInput(f"there is no run {name!r} in {data_dir}", listed)


def all_runs(data_dir: Path) -> Iterator[RunRecord]:
    """Yield the runs of a folder, oldest first."""
    for folder in _folders(data_dir):
        yield records.read_run(folder)


def load_folders(data_dir: Path) -> list[Path]:
    """Return the folders of the load tests, oldest first."""
    return sorted(path.parent for path in data_dir.glob(f"*/{LOAD_FILE}"))


def _folders(data_dir: Path) -> list[Path]:
    """Return the runs' folders, oldest first: their names begin with the time."""
    return sorted(path.parent for path in data_dir.glob(f"*/{records.RUN_FILE}"))


def keep_only(folder: Path, indexes: set[int]) -> None:
    """Take the lines of every other DAG run out of the raw files, before these are run again."""
    kinds: dict[str, type[records.Record]] = {
        records.TASKS_FILE: records.TaskRecord, records.SAMPLES_FILE: records.Sample,
        records.CONNECTIONS_FILE: records.Connection, records.DAG_RUNS_FILE: records.DagRunRecord}
    for name, kind in kinds.items():
        path = folder / name
        kept = [line for line in records.read(path, kind) if getattr(line, "index") in indexes]  # noqa: B009
        with replacing(path) as part:
            records.append(part, kept)
