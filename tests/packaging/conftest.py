"""Fixtures: what is built, once for the session, and environments that it is installed into."""

from pathlib import Path

import pytest

from rig.settings import PROJECT
from tests.packaging.distributions import NAMES, Environment, build


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the sdists and wheels of worker_init and patterns."""
    folder = tmp_path_factory.mktemp("dist")
    for package in NAMES:
        build(PROJECT / package, folder)
    return folder


@pytest.fixture(scope="session")
def wheels(dist: Path) -> dict[str, Path]:
    """Return each package's wheel."""
    return {package: next(dist.glob(f"{name}-*.whl")) for package, name in NAMES.items()}


@pytest.fixture(scope="session")
def alone(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with worker_init and what it requires, in the pinned versions."""
    made = Environment(tmp_path_factory.mktemp("alone"))
    made.install_pinned("neo4j", "pytz")
    made.install(wheels["worker_init"])
    return made
