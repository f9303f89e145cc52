"""A Neo4j with a configuration of the test's own, beside the session's."""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rig.settings import Settings
from rig.stack import neo4j, neo4j_jars, ports
from rig.stack.processes import MARK, Started
from testing.services import running_service


class OwnNeo4j(NamedTuple):
    """A server that serves."""

    uri: str
    password: str
    process: Started


@contextmanager
def own_neo4j(folder: Path, configured: Mapping[str, str]) -> Iterator[OwnNeo4j]:
    """Run a server whose configuration is the rig's, but for what is ``configured``."""
    port, password = ports.choose(0, variable="a test"), uuid.uuid4().hex
    service = neo4j.service(folder, neo4j_jars.ensure(Settings().downloads_dir, lambda *_: None), port, heap="512m",
                            password=password, env={**os.environ, MARK: str(folder)})
    _configure(folder / "conf" / "neo4j.conf", configured)
    with running_service(service, folder / "neo4j.log") as process:
        yield OwnNeo4j(f"bolt://127.0.0.1:{port}", password, process)


def _configure(conf: Path, configured: Mapping[str, str]) -> None:
    lines = dict(line.split("=", 1) for line in conf.read_text().splitlines() if line)
    conf.write_text("".join(f"{name}={value}\n" for name, value in {**lines, **configured}.items()))
