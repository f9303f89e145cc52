"""The rig as an ordinary user has it, also where the tests run as root."""

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.e2e.rig_command import RIG

USER = "nobody"


class Ordinary(NamedTuple):
    """How to run the rig as an ordinary user; ``user`` None is the present one."""

    user: str | None
    command: tuple[str, ...]
    environment: dict[str, str]


def find_or_make(home: Path) -> Ordinary:
    """Return how an ordinary user runs this rig.

    The interpreter may lie in root's own home: then an environment of the same packages is made under
    ``home``, on a copy of it. Raises LookupError where the user cannot run that either.
    """
    if os.geteuid() != 0:
        return Ordinary(None, RIG, {})
    if _can_run(sys.executable, {}):
        return Ordinary(USER, RIG, {})
    python, made = _copy_of_the_interpreter(home / "python"), home / "environment"
    environment = {"LD_LIBRARY_PATH": str(home / "python" / "lib")}    # where it is built with a shared library
    subprocess.run([python, "-m", "venv", "--without-pip", made], env=os.environ | environment, check=True)
    (packages,) = made.glob("lib/python*/site-packages")
    (packages / "same.pth").write_text(f"import site; site.addsitedir({site.getsitepackages()[0]!r})\n")
    for name in ("rig", "airflow"):
        _script(Path(sys.executable).parent / name, made / "bin" / name, made / "bin" / "python")
    if not _can_run(str(made / "bin" / "python"), environment):
        raise LookupError(f"the user {USER!r} can run neither {sys.executable} nor a copy of it")
    return Ordinary(USER, (str(made / "bin" / "rig"),), environment)


def _copy_of_the_interpreter(folder: Path) -> Path:
    shutil.copytree(sys.base_prefix, folder, symlinks=True, copy_function=_link_or_copy,
                    ignore=shutil.ignore_patterns("site-packages", "__pycache__", "test", "share"))
    return folder / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:     # on another file system
        shutil.copy2(source, target, follow_symlinks=False)


def _can_run(python: str, environment: dict[str, str]) -> bool:
    try:
        return subprocess.run([python, "-c", "import ssl, sqlite3, rig.stack.native"], user=USER, extra_groups=[],
                              env=os.environ | environment, cwd="/", capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _script(source: Path, target: Path, python: Path) -> None:
    _, rest = source.read_text(encoding="utf-8").split("\n", 1)
    target.write_text(f"#!{python}\n{rest}", encoding="utf-8")
    target.chmod(0o755)
