"""Run the tests that need a server, and those that failed once more, alone, as CPython's own test runner does.

On real servers, a test can fail by what the machine did at that moment. A fault of the code fails twice. A test that
passes only the second time is named at the end: it depends on luck, and that has to be fixed.
"""

import subprocess
import sys

import pytest

SELECT = "server"
AGAIN = ("--last-failed", "--last-failed-no-failures", "none", "--maxfail", "1", "--verbose")


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments. Returns its exit code; 0 too where what failed passes the second time."""
    command = [sys.executable, "-m", "pytest", "-m", SELECT, *arguments]
    first = subprocess.run(command, check=False).returncode
    if first != pytest.ExitCode.TESTS_FAILED:
        return first
    print("\nThe tests that failed run once more, alone:", flush=True)
    second = subprocess.run([*command, *AGAIN], check=False).returncode
    if second == pytest.ExitCode.OK:
        print("These tests passed only the second time. They depend on luck: fix them. They are listed above.")
    return second


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
