"""The runs of a data folder: created, found by name, listed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rig import records
from rig.errors import BadInput
from rig.load import records as load_records
from rig.records import COMPARISON_FILE, LOAD_FILE
from rig.whole_file import replacing

LATEST = "latest"


def new_folder(data_dir: Path, profile: str) -> Path:
    """Create the folder of a new run, named after the time (UTC) and the profile."""
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{profile}"
    folder = data_dir / name
    folder.mkdir(parents=True)
    return folder


def find(data_dir: Path, name: str) -> Path:
    """Return a run's folder by its id, by ``latest``, or by a path. Raises BadInput if there is none."""
    for folder in (data_dir / name, Path(name)):
        if any((folder / file).exists() for file in (records.RUN_FILE, LOAD_FILE, COMPARISON_FILE)):
            return folder.resolve()
    known = sorted(folder for file in (records.RUN_FILE, LOAD_FILE, COMPARISON_FILE)
                   for folder in _folders(data_dir, file))
    if name == LATEST and known:
        return known[-1].resolve()
    listed = f"runs here: {', '.join(folder.name for folder in known)}" if known \
        else "there are no runs yet: `rig compare` makes one"
    raise BadInput(f"there is no run {name!r} in {data_dir}", listed)


class Listed(NamedTuple):
    """A run in the list: its kind, when it was started (epoch, s), how many DAG runs it has had, its status."""

    name: str
    kind: str
    started_at: float
    dag_runs: int
    status: str


def listed(data_dir: Path, tell: Callable[[str], None]) -> list[Listed]:
    """Return the comparisons, the load tests and the comparisons of loads in a folder, oldest first.

    A record that cannot be read does not hide the others: ``tell`` is called with one line about it.
    """
    kinds: list[tuple[str, Callable[[Path], Listed]]] = [
        (records.RUN_FILE, _comparison), (LOAD_FILE, _load_test), (COMPARISON_FILE, _loads)]
    found = []
    for file, read in kinds:
        for folder in _folders(data_dir, file):
            try:
                found.append(read(folder))
            except (BadInput, OSError) as error:
                tell(f"{folder.name} is left out: {error}")
    return sorted(found, key=lambda run: (run.started_at, run.name))


def _comparison(folder: Path) -> Listed:
    record = records.read_run(folder)
    dag_runs = sum(1 for _ in records.read(folder / records.DAG_RUNS_FILE, records.DagRunRecord))
    return Listed(record.run, record.profile, record.started_at, dag_runs, record.status)


def _load_test(folder: Path) -> Listed:
    test = load_records.read_test(folder)
    return Listed(test.run, f"load, {test.load.pattern}", test.started_at, len(load_records.read_runs(folder)),
                  test.status)


def _loads(folder: Path) -> Listed:
    record = load_records.read_comparison(folder)
    dag_runs = sum(len(load_records.read_runs(folder / test.folder)) for test in load_records.read_tests(folder))
    cells = "1 cell" if len(record.cells) == 1 else f"{len(record.cells)} cells"
    return Listed(record.run, f"loads, {cells}", record.started_at, dag_runs, record.status)


def load_folders(data_dir: Path) -> list[Path]:
    """Return the folders of the load tests, oldest first."""
    return _folders(data_dir, LOAD_FILE)


def _folders(data_dir: Path, file: str = records.RUN_FILE) -> list[Path]:
    """Return the folders with such a record, oldest first: their names begin with the time."""
    return sorted(path.parent for path in data_dir.glob(f"*/{file}"))


def keep_only(folder: Path, indexes: set[int]) -> None:
    """Remove the lines of every other DAG run from the raw files, before those are run again."""
    kinds: dict[str, type[records.Record]] = {
        records.TASKS_FILE: records.TaskRecord, records.SAMPLES_FILE: records.Sample,
        records.CONNECTIONS_FILE: records.Connection, records.DAG_RUNS_FILE: records.DagRunRecord}
    for name, kind in kinds.items():
        path = folder / name
        kept = [line for line in records.read(path, kind) if getattr(line, "index") in indexes]  # noqa: B009
        with replacing(path) as part:
            records.append(part, kept)
