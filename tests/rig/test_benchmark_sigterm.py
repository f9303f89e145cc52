"""SIGTERM ends a benchmark and lets it stop what it has started, wherever its main thread is."""

import subprocess
import sys

import pytest

# Each sends itself the signal, so that it arrives at just that place; then it would go on for a minute.
ANYWHERE = "signal.raise_signal(signal.SIGTERM)"
IN_DEL = """
class Goes:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        print("gone")
Goes()
"""
IN_LOGGING = """
class Writes(logging.Handler):
    def emit(self, record):
        signal.raise_signal(signal.SIGTERM)
        print("written")
logging.getLogger().addHandler(Writes())
logging.warning("a line")
"""


@pytest.mark.parametrize(("where", "printed"), [
    (ANYWHERE, ["cleaned up"]), (IN_DEL, ["cleaned up"]), (IN_LOGGING, ["written", "cleaned up"])])
def test_sigterm_ends_it_and_leaves_neither_the_end_nor_a_line_of_the_log_out(where: str, printed: list[str]) -> None:
    body = "\n".join(f"    {line}" for line in where.strip().splitlines())
    script = ("import logging, signal, time\nfrom benchmarks.sigterm import end_on_sigterm\nend_on_sigterm()\n"
              f"try:\n{body}\n    time.sleep(60)\nfinally:\n    print('cleaned up')\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (143, printed, "")


def test_what_else_cannot_be_raised_is_still_reported() -> None:
    script = ("from benchmarks.sigterm import end_on_sigterm\nend_on_sigterm()\n"
              "class Fails:\n    def __del__(self):\n        raise ValueError('this one')\nFails()\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0
    assert "ValueError: this one" in done.stderr
