"""What the tests of the compose files need: compose for reading them, an engine and the images for running them."""

from collections.abc import Iterator

import pytest

from tests.compose.deployment import CELERY, Deployment, a_deployment, has_compose, has_engine, missing_images
from tests.server_marks import starts


@pytest.fixture(scope="session")
def compose_files(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Give the files as compose reads them; nothing is started."""
    if reason := has_compose():
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("compose-files")
    (home / ".env").write_text("".join(f"{name}={name.lower()}\n" for name in (
        "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "NEO4J_PASSWORD", "FLOWER_PASSWORD")))
    return Deployment(home)


@pytest.fixture(scope="session")
@starts("compose")
def engine(compose_files: Deployment) -> None:
    """Skip, with the reason, where nothing can be run."""
    if reason := has_engine():
        pytest.skip(reason)
    services = compose_files.config(CELERY)["services"]
    wanted = {service["image"] for service in services.values() if not service["image"].startswith("neo4j-airflow-")}
    base = services["airflow-init"]["build"]["args"]["AIRFLOW_IMAGE_NAME"]
    if missing := missing_images(sorted({*wanted, base})):
        pytest.skip(f"not on this machine: {', '.join(missing)}; `docker pull` gets them")


@pytest.fixture(scope="module")
def deployment(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Give a project with nothing running, on free ports; the module's tests use it one after the other."""
    home = tmp_path_factory.mktemp("compose")
    for folder in (home, *home.parents[:2]):
        folder.chmod(0o755)     # the containers' user has to come through
    with a_deployment(home, RIG_AIRFLOW_PORT="0", RIG_FLOWER_PORT="0", RIG_NEO4J_PORT="0", RIG_SLOTS="4") as made:
        yield made
