"""A Neo4j that is reached like an Aura instance: only over TLS, with routing, at a name that its certificate has.

``python -m testing.aura FILE`` runs one until Ctrl-C. It writes FILE in the format of the credentials file from Aura's
console, with one more line: ``SSL_CERT_FILE``, because no authority has signed this certificate. It does not imitate
Aura's load balancers, the end of connections after an hour, pauses, or users who only see their own connections.
"""

import argparse
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rig.errors import RigError
from rig.settings import Settings
from rig.stack import neo4j, neo4j_jars, ports
from rig.stack.processes import MARK
from rig.whole_file import write_private
from testing.certificates import pair
from testing.services import running_service

ENDS = (signal.SIGINT, signal.SIGTERM)


class Instance(NamedTuple):
    """An instance that is running."""

    uri: str
    password: str
    certificate: Path
    username: str = "neo4j"
    database: str = "neo4j"

    @property
    def variables(self) -> dict[str, str]:
        """The variables that its user sets."""
        return {"NEO4J_URI": self.uri, "NEO4J_USERNAME": self.username, "NEO4J_PASSWORD": self.password,
                "NEO4J_DATABASE": self.database, "SSL_CERT_FILE": str(self.certificate)}


@contextmanager
def instance(folder: Path) -> Iterator[Instance]:
    """Run an instance until the block ends; its files are in ``folder``."""
    files, port = pair(folder), ports.choose(0, variable="a test")
    made = Instance(f"neo4j+s://localhost:{port}", secrets.token_urlsafe(18), files.certificate)
    jars = neo4j_jars.ensure(Settings().downloads_dir, _tell)
    service = neo4j.service(folder, jars, port, heap="512m", password=made.password,
                            env={**os.environ, MARK: str(folder)})
    with (folder / "conf" / "neo4j.conf").open("a", encoding="utf-8") as settings:
        settings.write("\n".join([
            "server.bolt.tls_level=REQUIRED", "dbms.ssl.policy.bolt.enabled=true",
            f"dbms.ssl.policy.bolt.base_directory={folder}", f"dbms.ssl.policy.bolt.private_key={files.key}",
            f"dbms.ssl.policy.bolt.public_certificate={made.certificate}", "dbms.ssl.policy.bolt.client_auth=NONE",
            ""]))
    checked = replace(service, check=neo4j.ready(f"bolt+ssc://localhost:{port}", made.password))
    with running_service(checked, folder / "neo4j.log"):
        yield made


def _tell(done: int, jars: int) -> None:
    if done % 25 == 0 or done == jars:
        print(f"downloading Neo4j: {done} of {jars} jars", flush=True)


def _serve(file: Path) -> None:
    """Run an instance until Ctrl-C or SIGTERM; its variables are in ``file`` as long as it serves."""
    print("Neo4j is starting, which takes up to a minute …", flush=True)
    with tempfile.TemporaryDirectory(prefix="aura-") as folder, instance(Path(folder)) as running:
        try:
            write_private(file, "".join(f"{name}={value}\n" for name, value in running.variables.items()))
            print(f"{running.uri} serves; its variables are in {file}. Ctrl-C ends it.", flush=True)
            signal.pause()
        finally:
            file.unlink(missing_ok=True)


def _end(_: int, __: object) -> None:
    for number in ENDS:     # a second one would interrupt the cleanup
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run an instance until Ctrl-C or SIGTERM; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testing.aura", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="where to write the variables (mode 0600)")
    file: Path = parser.parse_args(arguments).file
    if file.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        parser.error(f"{file} cannot be written: expected a file in a folder that exists, and that you may write to")
    for number in ENDS:
        signal.signal(number, _end)
    try:
        _serve(file)
    except KeyboardInterrupt:
        return 0
    except RigError as error:
        print(f"testing.aura: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
