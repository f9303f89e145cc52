"""A Neo4j of the rig's own kind, outside any stack."""

import os
from dataclasses import dataclass
from pathlib import Path

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from rig.errors import ServiceDied
from rig.settings import Settings
from rig.stack import neo4j, neo4j_jars, processes
from rig.stack.processes import MARK
from rig.stack.service import reasons

# Neo4j 5 has another name for the class, and refuses settings that it does not know: the rig's are of a later version.
NEO4J_5 = "org.neo4j.server.CommunityEntryPoint"
UNKNOWN_SETTINGS_ARE_FINE = "server.config.strict_validation.enabled=false"


@dataclass
class StartedNeo4j:
    """A Neo4j that its user may stop and start."""

    folder: Path
    port: int
    password: str
    username: str = "neo4j"
    database: str = "neo4j"
    process: processes.Started | None = None
    lock_file: Path | None = None       # of the jars of a Neo4j 5, in place of the rig's

    @property
    def uri(self) -> str:
        """Where it listens."""
        return f"bolt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return once it serves. Raises ServiceDied where it has ended instead, with the reasons of its log."""
        jars = neo4j_jars.ensure(Settings().downloads_dir, lambda *_: None, self.lock_file)
        service = neo4j.service(self.folder, jars, self.port, heap="512m", password=self.password,
                                env={**os.environ, MARK: str(self.folder)},
                                main_class=NEO4J_5 if self.lock_file else neo4j.MAIN_CLASS,
                                settings=[UNKNOWN_SETTINGS_ARE_FINE] if self.lock_file else [])
        log = self.folder / "neo4j.log"
        self.process = started = processes.start(service.command, env=service.env, log=log, cwd=service.cwd)

        def problem() -> str | None:
            if not processes.find(started):
                raise ServiceDied(f"Neo4j has ended instead of serving on port {self.port}; its log: {log}",
                                  detail=reasons(log))
            return service.check()
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(120), wait=wait_fixed(0.2))(problem)

    def stop(self) -> None:
        """Return once it has ended; nothing happens where it does not run."""
        if self.process:
            processes.stop(self.process, timeout=30)
        self.process = None

    def restart(self) -> None:
        """Stop and start it, on the same port and with its data."""
        self.stop()
        self.start()
