"""Build and check everything that a release consists of: ``make release``. Nothing is published.

Afterwards ``dist/`` has a wheel and an sdist of each distribution, a CycloneDX list of the packages that each was
tested with, and SHA256SUMS.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
DIST = PROJECT / "dist"
DISTRIBUTIONS = {"neo4j_worker_init": PROJECT / "worker_init", "neo4j_connection_patterns": PROJECT / "patterns",
                 "neo4j_airflow_connections": PROJECT}
RUNTIME = {"neo4j", "pytz"}         # what the first two need; the third one needs everything that is pinned for it
PIN = re.compile(r"^([A-Za-z0-9_.\[\]-]+)==.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


class Unfit(Exception):
    """The release cannot be made. The message says what is wrong, and how to fix it."""


def version_of(folder: Path) -> str:
    """Return the version that a distribution's pyproject.toml names."""
    found = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return str(found)


def one_version(folders: list[Path], changelog: str) -> str:
    """Return the common version. Raises Unfit if versions differ, or if the changelog has no heading for it."""
    versions = {str(folder.relative_to(PROJECT)): version_of(folder) for folder in folders}
    if len(set(versions.values())) > 1:
        raise Unfit(f"the versions differ: {versions}: give every pyproject.toml the same")
    version = next(iter(versions.values()))
    if not re.search(rf"^## \[?{re.escape(version)}\]?\b", changelog, re.MULTILINE):
        raise Unfit(f"CHANGELOG.md has no heading '## [{version}]': write one")
    return version


def pins(requirements: str, names: set[str] | None) -> str:
    """Return the pins of a requirements file, with their hashes. If ``names`` are given, only the pins of these."""
    return "".join(pin[0] for pin in PIN.finditer(requirements) if names is None or pin[1] in names)


def build(folder: Path) -> None:
    """Make a wheel and an sdist."""
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST), str(folder))


def require_whole(wheel: Path, version: str) -> None:
    """Raise Unfit if a wheel lacks its version, its licence or its types."""
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        metadata = opened.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    if f"\nVersion: {version}\n" not in metadata:
        raise Unfit(f"{wheel.name} does not have the version {version}: build it again")
    if not any(name.endswith("/LICENSE") for name in names):
        raise Unfit(f"{wheel.name} has no licence: see license-files in its pyproject.toml")


def write_sbom(name: str, folder: Path, version: str) -> None:
    """Write the CycloneDX list of the packages that a distribution was tested with."""
    requirements = (PROJECT / "requirements" / "rig.txt").read_text(encoding="utf-8")
    given = pins(requirements, None if folder == PROJECT else RUNTIME)
    _run(str(Path(sys.executable).with_name("cyclonedx-py")), "requirements", "-", "--pyproject",
         str(folder / "pyproject.toml"), "--output-reproducible", "--output-format", "JSON", "--output-file",
         str(DIST / f"{name}-{version}.cdx.json"), given=given)


def sums() -> Iterator[str]:
    """Yield a line for each file, in the format of sha256sum."""
    for path in sorted(DIST.iterdir()):
        yield f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


def _run(*command: str, given: str | None = None) -> None:
    done = subprocess.run(command, cwd=PROJECT, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unfit(f"{' '.join(command[:4])} … failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Build and check."""
    version = one_version(list(DISTRIBUTIONS.values()), (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"))
    shutil.rmtree(DIST, ignore_errors=True)
    for name, folder in DISTRIBUTIONS.items():
        build(folder)
        require_whole(next(DIST.glob(f"{name}-*.whl")), version)
        (DIST / ".gitignore").unlink(missing_ok=True)
        write_sbom(name, folder, version)
    _run(sys.executable, "-m", "twine", "check", "--strict", *map(str, [*DIST.glob("*.whl"), *DIST.glob("*.tar.gz")]))
    (DIST / "SHA256SUMS").write_text("".join(sums()), encoding="ascii")
    print(f"Version {version} is in dist/, checked. Nothing was published.")


if __name__ == "__main__":
    try:
        main()
    except Unfit as unfit:
        sys.exit(f"release: {unfit}")
