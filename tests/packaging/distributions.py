"""Distributions as a user gets them: built, and installed into environments of their own."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from rig.settings import PROJECT

NAMES = {"worker_init": "neo4j_worker_init", "patterns": "neo4j_connection_patterns"}


def run(*command: str | Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command outside of the checkout, which must not be what Python finds; return how it ended."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NEO4J_"))}
    return subprocess.run(command, env=kept | settings, cwd="/", stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False, timeout=300)


def succeed(*command: str | Path) -> str:
    """Run a command that has to succeed; return what it said."""
    ended = run(*command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def build(folder: Path, dist: Path, *options: str) -> None:
    """Build a folder's sdist, and its wheel from that, as ``python -m build`` does by default."""
    succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, *options, folder)


class Environment:
    """A virtual environment with no pip in it: this one's pip installs."""

    def __init__(self, folder: Path, python: str | Path = sys.executable) -> None:
        self.python = folder / "bin" / "python"
        succeed(python, "-m", "venv", "--without-pip", folder)
        self.folder = folder

    def pip(self, *arguments: str | Path) -> str:
        """Run pip on this environment."""
        return succeed(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.python, *arguments)

    def install(self, *wheels: Path) -> None:
        """Install wheels, whose requirements have to be there."""
        self.pip("install", "--quiet", "--no-index", *wheels)

    def install_pinned(self, *names: str) -> None:
        """Install packages in the versions of this project, checked by their hashes."""
        pins = self.folder / "pins.txt"
        pins.write_text("".join(_pinned(name) for name in names))
        self.pip("install", "--quiet", "--no-deps", "--require-hashes", "-r", pins)

    def borrow_packages(self) -> None:
        """Let it import what this environment has, after what it has itself; what is installed here as editable not."""
        library = self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (library / "borrowed.pth").write_text(sysconfig.get_path("purelib"))

    def top_levels(self) -> set[str]:
        """Return the names that can be imported from it, and from no other place."""
        found = succeed(self.python, "-c", "import pkgutil, sysconfig; "
                        "print(*(m.name for m in pkgutil.iter_modules([sysconfig.get_path('purelib')])))")
        return set(found.split())


def _pinned(name: str) -> str:
    text = (PROJECT / "requirements" / "rig.txt").read_text()
    found = re.search(rf"^{name}==(?:.*\\\n)*.*\n", text, re.MULTILINE)
    assert found, name
    return found[0]
