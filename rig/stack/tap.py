"""The tap in the stack: tasks connect to it in place of the server, so that exactly their connections are counted."""

import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from rig.errors import BadInput
from rig.records import TAP
from rig.stack.service import Service
from rig.stack.state import Tap


def require_one_server(uri: str | None) -> None:
    """Raise BadInput for a routed address, because clients would go past the tap. None is the rig's own server."""
    if uri and (scheme := urlsplit(uri).scheme).startswith("neo4j"):
        raise BadInput(f"NEO4J_URI: --tap cannot count at a {scheme}:// address: its routing table names the members, "
                       "and clients connect to these past the tap",
                       "use the same address with bolt in place of neo4j, which is one server without routing, or "
                       "leave --tap out: the count is a lower bound then")


def new(folder: Path, port: int) -> Tap:
    """Return a tap that listens on this port of 127.0.0.1, and create its ``folder``."""
    folder.mkdir(exist_ok=True)
    return Tap(uri=f"bolt://127.0.0.1:{port}", port=port, file=folder / "opened")


def service(tap: Tap, server: str, env: Mapping[str, str], *, since: float) -> Service:
    """Return the tap's process. It is ready when it has touched its file after ``since`` (epoch, s).

    It does so as soon as it listens. A connection would show this too, but would be counted.
    """
    return Service(
        name=TAP, cwd=tap.file.parent, env=env, url=tap.uri,
        command=[sys.executable, "-m", "rig.stack.tap_process", "--server", server, "--port", str(tap.port),
                 "--opened", tap.file],
        check=lambda: None if tap.file.exists() and tap.file.stat().st_mtime > since else "it does not listen yet")
