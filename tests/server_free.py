"""Run the tests that need no server, and fail where a server is started all the same, by whatever process.

The plugin ``tests.server_marks`` stops what a test starts itself. This command also looks at what the programs that
tests start have started: ten times a second at every process below it, and once a second, since a process can leave its
parent, at every process that has its mark in the environment.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from itertools import count

import psutil

from tests.server_programs import mark_of

SELECT = "not server"
MARK = "SERVER_FREE_TESTS"
INTERVAL = 0.1      # seconds; a server that answers anybody lives longer
EVERYWHERE = 10     # in one look of so many: it costs four times as much
TEST = "PYTEST_CURRENT_TEST"    # pytest keeps the running test's name there, and what the test starts inherits it


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments. Returns its exit code, or 1 where a server was seen."""
    owner = uuid.uuid4().hex
    command = [sys.executable, "-m", "pytest", "-m", SELECT, *arguments]
    seen: dict[int, str] = {}
    with subprocess.Popen(command, env={**os.environ, MARK: owner}) as tests:
        for look in count():
            if _ended(tests):
                break
            seen.update(_servers(_below(tests.pid) if look % EVERYWHERE else _marked(owner)))
    for line in seen.values():
        print(f"server-free tests: {line}", file=sys.stderr)
    return tests.returncode or bool(seen)


def _ended(tests: "subprocess.Popen[bytes]") -> bool:
    try:
        tests.wait(INTERVAL)
    except subprocess.TimeoutExpired:
        return False
    return True


def _below(root: int) -> Iterable[psutil.Process]:
    try:
        return psutil.Process(root).children(recursive=True)
    except psutil.NoSuchProcess:    # the tests have ended meanwhile
        return ()


def _marked(owner: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == owner:
                yield process
        except psutil.Error:    # it has ended meanwhile, or is another user's
            continue


def _servers(processes: Iterable[psutil.Process]) -> Iterator[tuple[int, str]]:
    for process in processes:
        try:
            command = process.cmdline()
            if mark_of(command):
                test = process.environ().get(TEST, "an unknown test")
                yield process.pid, f"{test} has started a server: {' '.join(command)[:200]}"
        except psutil.Error:
            continue


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
