"""``worker-driver``: run the driver host without Celery, and inspect any driver host on this machine."""

import argparse
import asyncio
import json
import logging
import os
import shlex
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from worker_init import backend_setting
from worker_init.arguments import real, whole
from worker_init.commands import Command, outcome, transactions
from worker_init.control import (
    find_folders,
    folder_for,
    listen_for_status,
    read_status,
    send_command,
)
from worker_init.errors import BadSetting, WorkerInitError
from worker_init.event_loop import run
from worker_init.settings import Settings, runtime_dirs
from worker_init.status_table import table
from worker_init.targets import Address, Credentials, Upstreams, upstreams_of

log = logging.getLogger(__name__)

_STATUS_SECONDS = 5.0
_POLL_SECONDS = 0.2
_PAUSE_SECONDS = 60.0
_SERVES = "serve one shared driver for each upstream, until SIGTERM"
_SHOWS = "show this user's driver hosts: connections, waits and faults"
_MEANINGS = {
    Command.RECONNECT: "close every connection to Neo4j: idle ones now, each lent one at its transaction's end",
    Command.PAUSE: "do the same as `reconnect`, and let no transaction begin until `resume`; return when none runs",
    Command.RESUME: "let transactions go on after a pause",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 2 for a bad setting, 1 for another error."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment(os.environ)
        code: int = options.run(options, settings)
    except WorkerInitError as error:
        print(f"worker-driver: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadSetting) else 1
    except OSError as error:
        print(f"worker-driver: the system reports: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker-driver", description=(
        "Run the driver host without Celery, and inspect any driver host on this machine."))
    verbs = parser.add_subparsers(required=True)
    serve = verbs.add_parser("serve", help=_SERVES, description=_sentence(_SERVES))
    serve.add_argument("--port", type=whole(0, 65535), default=0,
                       help="port of the first upstream on 127.0.0.1 (0: any free one)")
    serve.add_argument("--environment-file", type=Path,
                       help="where to write the variables that clients need (mode 0600)")
    serve.add_argument("--airflow", action="store_true",
                       help="also serve the Neo4j connections that Airflow's tasks find in its database or a secrets "
                            "backend; the environment file then turns on this package's secrets backend")
    serve.set_defaults(run=_serve)
    status = verbs.add_parser("status", help=_SHOWS, description=_sentence(_SHOWS))
    status.add_argument("--json", action="store_true", help="print all details as JSON")
    status.set_defaults(run=_status)
    for command, meaning in _MEANINGS.items():
        verb = verbs.add_parser(command.value, help=meaning, description=(
            f"{_sentence(meaning)} It applies to every driver host of this user, or to the one of --pid. The exit "
            "code is 0 if all have done it."))
        verb.add_argument("--pid", type=whole(1),
                          help="only the host with this pid, as `worker-driver status` shows it")
        if command is Command.PAUSE:
            verb.add_argument("--timeout", type=real(0), default=_PAUSE_SECONDS, metavar="SECONDS",
                              help="how long to wait for running transactions (default %(default)g)")
        verb.set_defaults(run=_obey, command=command, timeout=_PAUSE_SECONDS)
    return parser


def _sentence(meaning: str) -> str:
    return f"{meaning[0].upper()}{meaning[1:]}."


def _obey(options: argparse.Namespace, settings: Settings) -> int:
    """Send a command to the hosts; print the results. The exit code is 1 if one did not obey, or there is none."""
    hosts = {folder: _status_of(folder) for folder in _folders(settings)}
    wanted = [folder for folder, host in hosts.items() if options.pid in (None, host.get("pid"))]
    if not wanted:
        which = f"with the pid {options.pid}" if options.pid else f"in {_searched(settings)}"
        raise WorkerInitError(f"there is no driver host of this user {which}: see `worker-driver status`")
    answers = [_answer(folder, options.command, options.timeout) for folder in wanted]
    return max(answers)


def _answer(folder: Path, command: Command, timeout: float) -> int:
    try:
        status = send_command(folder, command, _STATUS_SECONDS)
        ends_at = time.monotonic() + timeout
        while command is Command.PAUSE and transactions(status) and time.monotonic() < ends_at:
            time.sleep(_POLL_SECONDS)
            status = read_status(folder, _STATUS_SECONDS)
    except WorkerInitError as error:
        print(f"worker-driver: {error}", file=sys.stderr)
        return 1
    print(f"driver host {status['pid']}: {outcome(command, status)}")
    return int(command is Command.PAUSE and transactions(status) > 0)


def _folders(settings: Settings) -> list[Path]:
    return [*chain.from_iterable(map(find_folders, runtime_dirs(settings, os.environ)))]


def _searched(settings: Settings) -> str:
    return " or ".join(map(str, runtime_dirs(settings, os.environ)))


def _status(options: argparse.Namespace, settings: Settings) -> int:
    """Print the status of every host. The exit code is 1 if none answers."""
    hosts = [_status_of(folder) for folder in _folders(settings)]
    if options.json:
        print(json.dumps(hosts, indent=2))
    elif hosts:
        print(table(hosts))
    else:
        print(f"there is no driver host of this user in {_searched(settings)}")
    return 0 if any(host["state"] != "down" for host in hosts) else 1


def _status_of(folder: Path) -> dict[str, Any]:
    try:
        return {"folder": str(folder), **read_status(folder, _STATUS_SECONDS)}
    except WorkerInitError as error:
        return {"folder": str(folder), "state": "down", "last_error": str(error)}


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    from worker_init.host import prepare_process  # noqa: PLC0415 - `status` needs no Neo4j driver
    upstreams = upstreams_of(os.environ, settings.connection_ids.of_environment)
    if not upstreams.targets and not options.airflow:
        raise BadSetting("there is nothing to serve: set NEO4J_URI, NEO4J_USERNAME and NEO4J_PASSWORD, or use "
                         "--airflow")
    # If an Airflow cannot load its backend, its tasks find no connection and no variable at all.
    if options.airflow and (why := backend_setting.too_old()):
        raise BadSetting(f"--airflow cannot be used: {why}. Without --airflow the host serves NEO4J_URI and the "
                         "connections of its environment")
    prepare_process()
    return run(_run_host(options, settings, upstreams))


async def _run_host(options: argparse.Namespace, settings: Settings, upstreams: Upstreams) -> int:
    from worker_init.host import Host, host_settings  # noqa: PLC0415 - as above
    from worker_init.selftest import check_driver  # noqa: PLC0415
    await check_driver()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with folder_for(settings.runtime_dir, options.environment_file) as folder:
        host = Host(host_settings(settings, folder, f"worker-driver@{socket.gethostname()}"), has_pool=False)
        addresses = []
        for at, target in enumerate(upstreams.targets):
            sock, address = _listen(options.port + at if options.port else 0, os.environ)
            addresses.append(address)
            await host.open(0, at, target, address.credentials, sock)
        await host.serve_status(listen_for_status(folder))
        variables = upstreams.environment(addresses)
        if options.airflow:
            variables |= backend_setting.variables(folder, 0, os.environ.get(backend_setting.SETTING, ""))
        with _environment_file(options.environment_file, variables):
            _tell_what_is_served(upstreams, addresses, options)
            await stopped.wait()
            await host.drain(settings.drain_timeout)
    return 0


def _tell_what_is_served(upstreams: Upstreams, addresses: list[Address], options: argparse.Namespace) -> None:
    """Log where each upstream is served: without these lines a user at a terminal would see nothing at all."""
    for target, address in zip(upstreams.targets, addresses, strict=True):
        log.info("serving %s at bolt://%s:%d", target.uri, address.host, address.port)
    if options.airflow:
        log.info("serving each Neo4j connection of Airflow as soon as a task asks for it")
    if options.environment_file:
        log.info("the variables for the tasks are in %s", options.environment_file)


def _listen(port: int, environment: Mapping[str, str]) -> tuple[socket.socket, Address]:
    """Listen on the loopback. A sidecar's clients must know the credentials beforehand, so they may be given."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError as error:
        raise BadSetting(f"port {port} cannot be used: {error.strerror}") from error
    sock.listen()
    password = environment.get("NEO4J_WORKER_PASSWORD")
    username = environment.get("NEO4J_WORKER_USERNAME", "worker")
    return sock, Address.of(sock, Credentials(username, password) if password else Credentials.random())


@contextmanager
def _environment_file(path: Path | None, variables: dict[str, str]) -> Iterator[None]:
    """Write the variables to a private file for a shell to read, and remove the file at the end.

    Raises BadSetting if it cannot be written.
    """
    if not path:
        yield
        return
    try:
        written = _write(path, "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
    except OSError as error:
        raise BadSetting(f"--environment-file {path} cannot be written: {error.strerror}. Name a file in a folder that "
                         "this user may write to") from None
    try:
        yield
    finally:
        # Another host may have written its own file there meanwhile.
        with suppress(OSError):
            if os.path.samestat(path.lstat(), written):
                path.unlink()


def _write(path: Path, text: str) -> os.stat_result:
    """Write a private file, whole or not at all. A link that others have put in its place is replaced, not followed."""
    # Under a name that nobody can have created before: others may write to the folder.
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            written = os.fstat(descriptor)
        Path(part).replace(path)
    except OSError:
        Path(part).unlink(missing_ok=True)
        raise
    return written


if __name__ == "__main__":
    sys.exit(main())
