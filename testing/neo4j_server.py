"""A Neo4j of the kind that the rig starts, outside any stack."""

import os
from dataclasses import dataclass
from pathlib import Path

from rig.settings import Settings
from rig.stack import neo4j, neo4j_jars, processes
from rig.stack.processes import MARK
from testing import services

# Neo4j 5 has another name for the class, and refuses settings that it does not know; the rig's are of a later version.
NEO4J_5 = "org.neo4j.server.CommunityEntryPoint"
UNKNOWN_SETTINGS_ARE_FINE = "server.config.strict_validation.enabled=false"


@dataclass
class StartedNeo4j:
    """A Neo4j that its user can stop and start."""

    folder: Path
    port: int
    password: str
    username: str = "neo4j"
    database: str = "neo4j"
    process: processes.Started | None = None
    lock_file: Path | None = None       # of the jars of a Neo4j 5, instead of the rig's
    start_within: float = 120.0         # seconds

    @property
    def uri(self) -> str:
        """The URI at which it listens."""
        return f"bolt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server; return once it serves. Raises as :func:`testing.services.start` does."""
        jars = neo4j_jars.ensure(Settings().downloads_dir, lambda *_: None, self.lock_file)
        service = neo4j.service(self.folder, jars, self.port, heap="512m", password=self.password,
                                env={**os.environ, MARK: str(self.folder)},
                                main_class=NEO4J_5 if self.lock_file else neo4j.MAIN_CLASS,
                                settings=[UNKNOWN_SETTINGS_ARE_FINE] if self.lock_file else [])
        self.process = services.start(service, self.folder / "neo4j.log", self.start_within)

    def stop(self) -> None:
        """Stop the server; return once it has ended. Does nothing if it is not running."""
        if self.process:
            processes.stop(self.process, timeout=30)
        self.process = None

    def restart(self) -> None:
        """Stop and start the server, on the same port and with its data."""
        self.stop()
        self.start()
