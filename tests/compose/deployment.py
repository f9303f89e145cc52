"""``docker compose`` as a user has it, on a project of its own: name, folders, ports and secrets."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig import env_file
from rig.settings import PROJECT
from rig.stack.compose_command import CELERY_FILES, LOCAL_FILES
from tests.e2e.rig_command import Result

LOCAL, CELERY = LOCAL_FILES, CELERY_FILES
# The same on a machine that does other work too.
LOADED_LOCAL = (*LOCAL, "tests/compose/loaded.yml")
LOADED_CELERY = (*CELERY, "tests/compose/loaded.yml", "tests/compose/loaded.celery.yml")
LIMIT = 600.0       # seconds for one command: the first start builds the image
OURS = ("NEO4J_", "RIG_", "AIRFLOW", "_AIRFLOW", "COMPOSE_", "FLOWER_", "WORKER_INIT_", "_PIP_")


@dataclass
class Deployment:
    """One compose project. ``settings`` are variables of every command's environment; ``home`` holds dags/ and .env."""

    home: Path
    name: str = field(default_factory=lambda: f"rig-compose-test-{secrets.token_hex(4)}")
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def dotenv(self) -> Path:
        """Its .env."""
        return self.home / ".env"

    def compose(self, *arguments: str, files: tuple[str, ...] = LOCAL,
                settings: Mapping[str, str] | None = None) -> Result:
        """Run a command of ``docker compose`` to its end."""
        command = ["docker", "compose", "--project-directory", str(PROJECT), "--project-name", self.name,
                   "--env-file", str(self.dotenv), "--ansi", "never", "--progress", "quiet",
                   *(word for file in files for word in ("-f", str(PROJECT / file))), *arguments]
        done = subprocess.run(command, env=self._environment(settings or {}), capture_output=True, text=True,
                              timeout=LIMIT, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def config(self, files: tuple[str, ...], *profiles: str, **settings: str) -> dict[str, Any]:
        """Return what compose makes of the files."""
        chosen = [word for profile in profiles for word in ("--profile", profile)]
        found: dict[str, Any] = json.loads(
            self.compose(*chosen, "config", "--format", "json", files=files, settings=settings).require().out)
        return found

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return {**kept, "AIRFLOW_PROJ_DIR": str(self.home), **self.settings, **settings}


@contextmanager
def a_deployment(home: Path, **settings: str) -> Iterator[Deployment]:
    """Make the folders and secrets of a project; nothing of it is left when the block ends."""
    made = Deployment(home, settings=settings)
    for name in ("dags", "logs", "config", "plugins"):
        (home / name).mkdir(exist_ok=True)
    shutil.copytree(PROJECT / "dags", home / "dags", dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__"))
    env_file.complete(made.dotenv)
    try:
        yield made
    finally:
        # A worker would be waited for until its tasks have ended.
        made.compose("--profile", "*", "kill", files=CELERY)
        made.compose("--profile", "*", "down", "-v", "--remove-orphans", files=CELERY)


def has_compose() -> str | None:
    """Return None where ``docker compose`` is there, else why not."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    done = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else "docker has no compose plugin"


def has_engine() -> str | None:
    """Return None where a Docker engine answers, else why not."""
    if reason := has_compose():
        return reason
    done = subprocess.run(["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True,
                          check=False)
    return None if done.returncode == 0 else "no Docker engine answers"


def missing_images(names: list[str]) -> list[str]:
    """Return those of the images that are not on this machine."""
    return [name for name in names
            if subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode]
