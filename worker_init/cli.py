"""``worker-driver``: the driver host without Celery, and a look at any host of this machine."""

import argparse
import asyncio
import json
import os
import shlex
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker_init.control import find_folders, listen_for_status, make_folder, read_status, remove_folder
from worker_init.errors import BadSetting, WorkerInitError
from worker_init.event_loop import run
from worker_init.settings import Settings
from worker_init.targets import Address, Credentials, Upstreams, upstreams_of

_STATUS_SECONDS = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment(os.environ)
        code: int = options.run(options, settings)
    except WorkerInitError as error:
        print(f"worker-driver: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadSetting) else 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker-driver", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    serve = verbs.add_parser("serve", help="serve one shared driver for each upstream, until SIGTERM")
    serve.add_argument("--port", type=int, default=0, help="port of the first upstream on 127.0.0.1 (0: any free one)")
    serve.add_argument("--environment-file", type=Path,
                       help="where to write the variables that clients need (mode 0600)")
    serve.set_defaults(run=_serve)
    status = verbs.add_parser("status", help="print the status of this user's hosts as JSON")
    status.set_defaults(run=_status)
    return parser


def _status(_: argparse.Namespace, settings: Settings) -> int:
    """Print every host's status; the exit code is 1 where none answers."""
    hosts = []
    for folder in find_folders(settings.runtime_dir):
        try:
            hosts.append({"folder": str(folder), **read_status(folder, _STATUS_SECONDS)})
        except WorkerInitError as error:
            hosts.append({"folder": str(folder), "state": "down", "last_error": str(error)})
    print(json.dumps(hosts, indent=2))
    return 0 if any(host["state"] != "down" for host in hosts) else 1


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    from worker_init.host import prepare_process  # noqa: PLC0415 - `status` needs no Neo4j driver
    upstreams = upstreams_of(os.environ, settings.connection_ids)
    if not upstreams.targets:
        raise BadSetting("there is nothing to serve: set NEO4J_URI, NEO4J_USERNAME and NEO4J_PASSWORD")
    prepare_process()
    return run(_run_host(options, settings, upstreams))


async def _run_host(options: argparse.Namespace, settings: Settings, upstreams: Upstreams) -> int:
    from worker_init.host import Host, host_settings  # noqa: PLC0415 - as above
    from worker_init.selftest import check_driver  # noqa: PLC0415
    await check_driver()
    folder = make_folder(settings.runtime_dir)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    host = Host(host_settings(settings, folder), has_pool=False)
    try:
        addresses = []
        for at, target in enumerate(upstreams.targets):
            sock, address = _listen(options.port + at if options.port else 0, os.environ)
            addresses.append(address)
            await host.open(0, at, target, address.credentials, sock)
        await host.serve_status(listen_for_status(folder))
        _write_environment(options.environment_file, upstreams.environment(addresses))
        await stopped.wait()
        await host.drain(settings.drain_timeout)
    finally:
        remove_folder(folder)
    return 0


def _listen(port: int, environment: Mapping[str, str]) -> tuple[socket.socket, Address]:
    """Listen on the loopback. A sidecar's clients have to know the credentials beforehand, so they may be given."""
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


def _write_environment(path: Path | None, variables: dict[str, Any]) -> None:
    """Write the variables for a shell to read, whole or not at all, for nobody else's eyes."""
    if not path:
        return
    part = path.with_name(f"{path.name}.part")
    part.touch(mode=0o600)
    part.chmod(0o600)
    part.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
