"""Run the tests that need no server, and fail where a server is started all the same, by whatever process.

The plugin ``tests.server_marks`` stops what a test starts itself. This command also looks at what the programs that
tests start have started: ten times a second, at every process below it and every one with its mark in the environment.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import psutil

from tests.server_programs import mark_of

SELECT = "not server"
MARK = "SERVER_FREE_TESTS"
INTERVAL = 0.1      # seconds; a server that answers anybody lives longer
TEST = "PYTEST_CURRENT_TEST"    # pytest keeps the running test's name there, and what the test starts inherits it


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments. Returns its exit code, or 1 where a server was seen."""
    owner = uuid.uuid4().hex
    command = [sys.executable, "-m", "pytest", "-m", SELECT, *arguments]
    seen: dict[int, str] = {}
    with subprocess.Popen(command, env={**os.environ, MARK: owner}) as tests:
        while not _ended(tests):
            seen.update(_servers(tests.pid, owner))
    for line in seen.values():
        print(f"server-free tests: {line}", file=sys.stderr)
    return tests.returncode or bool(seen)


def _ended(tests: "subprocess.Popen[bytes]") -> bool:
    try:
        tests.wait(INTERVAL)
    except subprocess.TimeoutExpired:
        return False
    return True


def _servers(root: int, owner: str) -> Iterator[tuple[int, str]]:
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if mark_of(command) and _is_of(process, root, owner):
                test = process.environ().get(TEST, "an unknown test")
                yield process.pid, f"{test} has started a server: {' '.join(command)[:200]}"
        except psutil.Error:    # it has ended meanwhile, or is another user's
            continue


def _is_of(process: psutil.Process, root: int, owner: str) -> bool:
    return process.environ().get(MARK) == owner or any(parent.pid == root for parent in process.parents())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
