"""``make pythons``: the tests of worker_init alone on every Python that is found here.

Tried are the oldest patch release of each version, which has the bugs that later ones do not have, 3.11.2 (Debian 12),
and whatever else is installed. What is missing is named, with the command that installs it; ``--download`` has uv
install it.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
TESTS = "tests/worker_init/pure"
REQUIREMENTS = CHECKOUT / "requirements" / "pythons.txt"
MINORS = ("3.10", "3.11", "3.12", "3.13")
# uv's builds of 3.11 begin at 3.11.1 and have no 3.11.2, which Debian 12 and the image python:3.11.2 have.
WANTED = ("3.10.0", "3.11.2", "3.12.0", "3.13.0")
_SELF = "import platform, sys; print(platform.python_implementation(), platform.python_version(), sys.executable)"


def _paths() -> Iterator[Path]:
    """Yield whatever may be a Python: in the search path, pyenv's and uv's."""
    names = ["python3", *(f"python{minor}" for minor in MINORS)]
    folders = [*os.get_exec_path(), "/usr/bin", "/usr/local/bin", "/opt/python/bin"]
    yield from (path for folder in folders for name in names if (path := Path(folder) / name).exists())
    yield from sorted(Path.home().glob(".pyenv/versions/*/bin/python3"))
    if uv := shutil.which("uv"):
        listed = subprocess.run([uv, "python", "list", "--only-installed", "--output-format", "json"],
                                capture_output=True, text=True, check=False).stdout
        yield from (Path(entry["path"]) for entry in json.loads(listed or "[]"))


def find() -> dict[str, Path]:
    """Return an interpreter for each version of CPython that is installed and supported, oldest first."""
    found: dict[str, Path] = {}
    for path in _paths():
        said = subprocess.run([path, "-c", _SELF], capture_output=True, text=True, check=False).stdout.split()
        if len(said) == 3 and said[0] == "CPython" and said[1].rpartition(".")[0] in MINORS:
            found.setdefault(said[1], Path(said[2]).resolve())
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in re.findall(r"\d+", item[0])]))


def environment(version: str, python: Path) -> Path:
    """Return the Python of an environment with what the tests need; it is kept for the next time.

    Raises CalledProcessError where it cannot be made; ``stderr`` says why.
    """
    state = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = CHECKOUT / "results" / ".cache" / "pythons" / f"{version}-{state}"
    made = folder / "bin" / "python"
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        # Without pip: Debian's Python has no ensurepip until another package is installed.
        _run([python, "-m", "venv", "--without-pip", folder])
        _run([sys.executable, "-m", "pip", "--python", made, "install", "--quiet", "--disable-pip-version-check",
              "--no-deps", "--require-hashes", "-r", REQUIREMENTS])
        (folder / "whole").touch()
    return made


def _run(command: list[str | Path]) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True)


def check(version: str, python: Path, options: list[str]) -> str:
    """Run the tests on one Python; return what came of it, in a line."""
    try:
        made = environment(version, python)
    except subprocess.CalledProcessError as error:
        return f"failed: no environment: {(error.stderr or error.stdout or str(error)).strip().splitlines()[-1]}"
    command = [str(made), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--confcutdir={TESTS}", *options, TESTS]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if ran.returncode:
        print(ran.stdout, ran.stderr, sep="")
    last = ran.stdout.strip().splitlines()[-1:] or ["nothing was said"]
    return f"{'failed' if ran.returncode else 'passed'}: {last[0]}"


def main() -> int:
    """Print a line for each version; exit code 1 if the tests failed on one."""
    parser = argparse.ArgumentParser(prog="make pythons", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--download", action="store_true", help="have uv install what is missing")
    parser.add_argument("--only", action="append", default=[], metavar="VERSION",
                        help="try this version only; may be given several times")
    arguments, options = parser.parse_known_args()
    if arguments.download:
        missing = [version for version in WANTED if version not in find()]
        subprocess.run(["uv", "python", "install", *missing], check=False)
    found = find()
    results = {version: check(version, python, options) for version, python in found.items()
               if not arguments.only or version in arguments.only}
    for version, result in results.items():
        print(f"{version:8} {found[version]}  {result}")
    for version in arguments.only or WANTED:
        if version not in found:
            print(f"{version:8} skipped: it is not installed here (uv python install {version})")
    return 1 if any(result.startswith("failed") for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
