"""A Maven repository of a test's own: the real one cannot be made to send wrong files."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jgo.constants
import jgo.maven
import pytest

from rig.stack import neo4j_jars, ports

GROUP, VERSION = "org.neo4j", "1.2.3"


class Mirror(ThreadingHTTPServer):
    """Serves the jars in ``jars`` by their artifact's name, those in ``cut`` only in part; counts what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jars = {"neo4j": b"the kernel" * 1000, "cypher": b"the language" * 1000}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        """Return the address of the repository."""
        return f"http://127.0.0.1:{self.server_port}"

    def lock(self) -> str:
        """Return a lock file for the jars as they are now."""
        return "".join(
            f'[[dependencies]]\ngroupId = "{GROUP}"\nartifactId = "{name}"\nversion = "{VERSION}"\n'
            f'packaging = "jar"\nsha256 = "{hashlib.sha256(jar).hexdigest()}"\n' for name, jar in self.jars.items())


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1].removesuffix(f"-{VERSION}.jar")
        if name not in self.server.jars:
            self.send_error(404)
            return
        self.server.asked.append(name)
        self.server.may_answer.wait()
        jar = self.server.jars[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(jar)))
        self.end_headers()
        self.wfile.write(jar[:100] if name in self.server.cut else jar)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def small_server(lock_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Let the server consist of two small jars that a mirror has, until the test ends."""
    with maven_mirror() as mirror:
        lock_file.write_text(mirror.lock())
        monkeypatch.setattr(neo4j_jars, "LOCK_FILE", lock_file)
        monkeypatch.setattr(jgo.constants, "MAVEN_CENTRAL_URL", mirror.url)
        monkeypatch.setitem(jgo.maven._core.DEFAULT_REMOTE_REPOS, "central", mirror.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield mirror


def unreachable() -> dict[str, str]:
    """Return the environment of a machine without network: its proxy is nobody."""
    nobody = f"http://127.0.0.1:{ports.choose(0, variable='a test')}"
    proxies = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), nobody)
    return {**proxies, **{name.lower(): nobody for name in proxies}, "NO_PROXY": "", "no_proxy": ""}


@contextmanager
def maven_mirror() -> Iterator[Mirror]:
    """Serve a repository until the block ends."""
    with Mirror() as mirror:
        thread = threading.Thread(target=mirror.serve_forever, args=[0.01])
        thread.start()
        try:
            yield mirror
        finally:
            mirror.shutdown()
            thread.join()
