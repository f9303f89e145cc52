"""``docker compose`` as a program: found, asked for its version, and run on this project's files."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import psutil

from rig import env_file, interrupts
from rig.env_file import ENV_FILE
from rig.errors import BadInput, RigError
from rig.settings import PROJECT
from rig.stack import processes

LOCAL_FILES = ("docker-compose.yml",)
CELERY_FILES = (*LOCAL_FILES, "docker-compose.celery.yml")
OLDEST = (2, 24)
QUICK = 60.0            # seconds for a question
END_WITHIN = 10.0       # seconds for a command that is interrupted
PROJECT_LABEL, SERVICE_LABEL, NUMBER_LABEL, VOLUME_LABEL = (
    f"com.docker.compose.{name}" for name in ("project", "service", "container-number", "volume"))


@dataclass(frozen=True)
class Container:
    """The engine's description of a container at one moment."""

    found: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """The container's id."""
        return str(self.found["Id"])

    @property
    def service(self) -> str:
        """The service to which it belongs."""
        return str(self.found["Config"]["Labels"][SERVICE_LABEL])

    @property
    def number(self) -> int:
        """Its number among the containers of its service, from 1."""
        return int(self.found["Config"]["Labels"][NUMBER_LABEL])

    @property
    def pid(self) -> int:
        """Its process on this machine, 0 if it is not running."""
        return int(self.found["State"]["Pid"])

    @property
    def is_running(self) -> bool:
        """Whether its process is running."""
        return bool(self.found["State"]["Running"])

    @property
    def is_paused(self) -> bool:
        """Whether somebody has stopped it (``docker pause``)."""
        return bool(self.found["State"].get("Paused"))

    @property
    def started_at(self) -> float:
        """When it was last started (epoch, s)."""
        return datetime.fromisoformat(str(self.found["State"]["StartedAt"])).timestamp()

    @cached_property
    def env(self) -> dict[str, str]:
        """The environment with which it was created."""
        # A variable without a value is one that compose should take from outside, where it is not set either.
        return dict(variable.split("=", 1) for variable in self.found["Config"]["Env"] if "=" in variable)

    def port(self, inside: int) -> int:
        """Return the port of this machine that leads to a port of the container; 0 if there is none."""
        bound = self.found["NetworkSettings"]["Ports"].get(f"{inside}/tcp")
        return int(bound[0]["HostPort"]) if bound else 0

    def problem(self) -> str | None:
        """Return the problem that the engine reports; None if there is none."""
        state = self.found["State"]
        if not state["Running"]:
            return f"it has ended with {state['ExitCode']}"
        if self.is_paused:
            return "it is paused; `docker compose unpause` lets it go on"
        if state.get("Health", {}).get("Status") == "unhealthy":
            return f"its health check fails: {_last_line(state['Health']['Log'][-1]['Output'])}"
        return None


@dataclass(frozen=True)
class Compose:
    """The compose project of this clone. ``settings`` are variables in addition to the environment and ``.env``."""

    files: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, timeout: float | None = None) -> str:
        """Run a command and return its output. ``timeout`` is in seconds. Raises RigError with its last message."""
        done = self._run(arguments, timeout)
        if done.returncode:
            raise RigError(f"docker compose {arguments[0]} failed: {_last_line(done.stderr)}",
                           "`docker compose ps -a` and `docker compose logs` show more")
        return done.stdout

    def ask(self, *arguments: str) -> tuple[int, str]:
        """Run a command that asks something; return its exit code and the last line of its output."""
        done = self._run(arguments, QUICK)
        return done.returncode, _last_line(done.stdout or done.stderr)

    def require_settings(self) -> None:
        """Raise BadInput if secrets are missing, naming all of them, or if the files cannot be read."""
        # As compose reads them: an empty variable in the environment takes precedence over .env.
        known = {**env_file.values(ENV_FILE.read_text("utf-8") if ENV_FILE.exists() else ""), **os.environ}
        needed = [name for name in env_file.SECRETS if name != "FLOWER_PASSWORD" or CELERY_FILES[-1] in self.files]
        if missing := [name for name in needed if not known.get(name)]:
            raise BadInput(f"not set in .env: {', '.join(missing)}", "`make env` writes them")
        done = self._run(["config", "--quiet"], QUICK)
        if done.returncode:
            raise BadInput(f"the compose files cannot be used: {_last_line(done.stderr)}",
                           ".env.example explains each variable")

    def containers(self) -> list[Container]:
        """Return every container of the project, including those that have ended."""
        return inspect(self._labelled("ps", "-aq"))

    def volumes(self, name: str | None = None) -> list[str]:
        """Return the project's volumes, or the one that the files call by this name."""
        only = ["--filter", f"label={VOLUME_LABEL}={name}"] if name else []
        return self._labelled("volume", "ls", "-q", *only)

    def remove_volume(self, name: str) -> None:
        """Remove a volume by its name in the files, if it exists. Raises RigError if it is in use."""
        for volume in self.volumes(name):
            done = execute(["docker", "volume", "rm", volume], os.environ, QUICK)
            if done.returncode:
                raise RigError(f"docker volume rm {volume} failed: {_last_line(done.stderr)}")

    def _labelled(self, *arguments: str) -> list[str]:
        done = execute(["docker", *arguments, "--filter", f"label={PROJECT_LABEL}={self._project}"], os.environ, QUICK)
        if done.returncode:
            raise RigError(f"docker {arguments[0]} failed: {_last_line(done.stderr)}")
        return done.stdout.split()

    @cached_property
    def _project(self) -> str:
        """The project's name, by compose's own rules. This needs no secret and no engine."""
        done = execute(["docker", "compose", "--project-directory", str(PROJECT), "-f", "-", "config", "--format",
                        "json"], os.environ, QUICK, stdin="services: {}")
        return str(json.loads(done.stdout)["name"])

    def _run(self, arguments: Sequence[str], timeout: float | None) -> "subprocess.CompletedProcess[str]":
        files = [word for file in self.files for word in ("-f", str(PROJECT / file))]
        return execute(["docker", "compose", "--project-directory", str(PROJECT), "--ansi", "never", *files,
                        *arguments], {**os.environ, **self.settings}, timeout)


def inspect(ids: Sequence[str]) -> list[Container]:
    """Return the engine's description of these containers, without any that has just gone."""
    if not ids:
        return []
    done = execute(["docker", "inspect", "--type", "container", *ids], os.environ, QUICK)
    return [Container(found) for found in json.loads(done.stdout or "[]")]


def compose_version() -> str:
    """Return the version of ``docker compose``; empty if there is none."""
    return execute(["docker", "compose", "version", "--short"], os.environ, QUICK).stdout.strip().removeprefix("v")


def engine_version() -> str:
    """Return the version of the engine. Raises BadInput if none answers."""
    done = execute(["docker", "info", "--format", "{{.ServerVersion}}"], os.environ, QUICK)
    if done.returncode:
        raise BadInput(f"no Docker engine answers: {_last_line(done.stderr)}",
                       "start Docker, and add your user to the group that may use it")
    return done.stdout.strip()


def require() -> None:
    """Raise BadInput if there is no ``docker compose``, an old one, or no engine that answers."""
    if shutil.which("docker") is None:
        raise BadInput("there is no docker command", "install Docker, or leave out --stack compose")
    version = compose_version()
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < OLDEST:
        raise BadInput(f"docker compose is {version or 'not there'}: expected {'.'.join(map(str, OLDEST))} or newer",
                       "update Docker's compose plugin")
    engine_version()


def execute(command: Sequence[str], env: Mapping[str, str], timeout: float | None, stdin: str | None = None,
            ) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end. Raises RigError after ``timeout`` seconds; None means no limit.

    The program has a session of its own: Ctrl-C in a terminal reaches this process alone, which may put it off.
    """
    with ExitStack() as unless_it_ends:
        with interrupts.put_off():      # else Ctrl-C could come before it is known what to end
            process = psutil.Popen(command, env=dict(env), cwd=PROJECT, text=True, start_new_session=True,
                                   stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            unless_it_ends.enter_context(process)
            unless_it_ends.callback(_end, process)
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired as error:
            raise RigError(f"`{' '.join(command[:2])}` has not ended within {timeout:g} s",
                           "`docker info` says whether the engine answers") from error
        unless_it_ends.pop_all()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _end(process: psutil.Popen) -> None:
    """End a program and its children, as Ctrl-C in a terminal would: ``docker compose`` is a child of ``docker``.

    It may have ended by itself: ``communicate`` waits for a moment when it is interrupted.
    """
    with interrupts.put_off():
        processes.end(process, timeout=END_WITHIN, sign=signal.SIGINT)
        # It may have started a child after its children were looked for.
        processes.kill(list(processes.in_session(process.pid)))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
