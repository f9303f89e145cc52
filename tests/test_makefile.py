"""The environment that make makes: never half of one, with a Python and a pip that only pretend."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rig.settings import PROJECT
from testing.waiting import eventually

PYTHON = """#!/bin/sh
if [ "$1" != -m ]; then exec {python} "$@"; fi
mkdir -p .venv/bin && cp pip .venv/bin/pip
"""
PIP = """#!/bin/sh
echo "$@" >> pip-calls
if [ -e slow ]; then touch .venv/half; sleep 60; fi
case "$*" in *" -e ."*) printf '#!/bin/sh\\necho "rig $*"\\n' > .venv/bin/rig; chmod +x .venv/bin/rig ;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements/rig.txt", "requirements/test.txt",
                 "worker_init/pyproject.toml", "patterns/pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((PROJECT / name).read_bytes())
    for name, text in {"python": PYTHON.format(python=sys.executable), "pip": PIP}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def make(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(["make", f"PYTHON={checkout / 'python'}", *arguments], cwd=checkout, text=True, check=True,
                          capture_output=True, env={"PATH": os.environ["PATH"]})
    return done.stdout


def calls(checkout: Path) -> int:
    return len((checkout / "pip-calls").read_text().splitlines())


def test_it_is_made_once_and_again_when_a_requirement_changes(checkout: Path) -> None:
    assert "rig status" in make(checkout, "status")
    made = calls(checkout)
    assert "Installing" not in make(checkout, "status")
    assert calls(checkout) == made
    later = (checkout / ".venv/.whole").stat().st_mtime + 10
    os.utime(checkout / "requirements/rig.txt", (later, later))
    assert "Installing" in make(checkout, "status")
    assert calls(checkout) == 2 * made


def test_one_that_ctrl_c_has_left_half_made_is_made_again(checkout: Path) -> None:
    (checkout / "slow").touch()
    running = subprocess.Popen(["make", f"PYTHON={checkout / 'python'}", "status"], cwd=checkout,
                               start_new_session=True, env={"PATH": os.environ["PATH"]})
    eventually((checkout / ".venv/half").exists, limit=30)
    os.killpg(running.pid, signal.SIGINT)       # as the terminal does, to all of them
    assert running.wait(30)
    (checkout / "slow").unlink()
    assert "rig status" in make(checkout, "status")
    assert not (checkout / ".venv/half").exists()
