"""Run the tests that need a server, and those that failed once more, alone, as CPython's own test runner does.

Without arguments they run in two halves, beside each other where there is memory for both: those with a whole stack
mostly wait for it. On real servers, a test can fail by what the machine did at that moment. A fault of the code fails
twice. A test that passes only the second time is named at the end: it depends on luck, and that has to be fixed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import psutil
import pytest

SELECT = "server"
AGAIN = ("--last-failed", "--last-failed-no-failures", "none", "--maxfail", "1", "--verbose")
STACKS = ("tests/e2e", "tests/compose", "tests/packaging")
HALVES = (("tests", *(f"--ignore={folder}" for folder in STACKS)), STACKS)
MEMORY = 10 * 2**30     # bytes: a stack, a Neo4j or two beside it, and what the tests themselves take


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments. Returns its exit code; 0 too where what failed passes the second time."""
    halves = [arguments] if arguments else [list(half) for half in HALVES]
    if len(halves) > 1 and psutil.virtual_memory().available >= MEMORY:
        with tempfile.TemporaryFile("w+") as kept:
            running = [_start(half, number, kept if number else None) for number, half in enumerate(halves)]
            codes = [process.wait() for process in running]
            kept.seek(0)
            print(kept.read(), flush=True)
    else:
        codes = [_start(half, number).wait() for number, half in enumerate(halves)]
    return max(_second_chance(code, half, number)
               for number, (code, half) in enumerate(zip(codes, halves, strict=True)))


def _second_chance(code: int, half: list[str], number: int) -> int:
    if code != pytest.ExitCode.TESTS_FAILED:
        return code
    print("\nThe tests that failed run once more, alone:", flush=True)
    second = _start([*half, *AGAIN], number).wait()
    if second == pytest.ExitCode.OK:
        print("These tests passed only the second time. They depend on luck: fix them. They are listed above.")
    return second


def _start(arguments: list[str], number: int, output: IO[str] | None = None) -> "subprocess.Popen[bytes]":
    cache = Path(".pytest_cache") / f"server-{number}"      # of its own: it has which tests failed
    return subprocess.Popen([sys.executable, "-m", "pytest", "-m", SELECT, "-o", f"cache_dir={cache}", *arguments],
                            stdout=output, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
