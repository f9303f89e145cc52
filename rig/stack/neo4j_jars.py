"""Neo4j Community as jars: resolved by jgo from a lock file, verified against it, and kept.

The lock file beside this module is in jgo's own format (``jgo.lock.toml``): every jar with its SHA-256, beginning with
the requested one. To update it to another version, run ``python -m rig.stack.neo4j_jars org.neo4j:neo4j:VERSION``. A
second argument is the lock file of another program, for example the tests' cypher-shell.
"""

import hashlib
import importlib
import shutil
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from rig.errors import RigError

LOCK_FILE = Path(__file__).with_name("neo4j.lock.toml")
DOWNLOADING = ".downloading.lock"
DOWNLOADS_AT_ONCE = 8

Progress = Callable[[int, int], None]       # jars that are present, jars in all


def version() -> str:
    """Return the version of Neo4j that the lock file pins."""
    return str(_locked(LOCK_FILE)[0]["version"])


def missing(downloads: Path) -> int:
    """Return how many jars are not downloaded yet."""
    jars = _locked(LOCK_FILE)
    folder = _folder(downloads, jars)
    return sum(not (folder / _file_name(jar)).exists() for jar in jars)


def host() -> str:
    """Return the name of the server that the jars come from."""
    return str(urlsplit(_jgo("constants").MAVEN_CENTRAL_URL).hostname)


def reach() -> None:
    """Send that server a small request. Raises OSError if it cannot be reached."""
    import requests  # noqa: PLC0415 - slow to import, and not needed for a warm start

    requests.head(_jgo("constants").MAVEN_CENTRAL_URL, timeout=10)    # its errors are OSErrors


def ensure(downloads: Path, progress: Progress, lock_file: Path | None = None) -> Path:
    """Return the folder with every jar of the server, or of another lock file, after downloading the missing ones.

    If another process downloads into the same folder, this waits for it. Raises RigError if a jar cannot be downloaded,
    or is not the one in the lock file.
    """
    jars = _locked(lock_file or LOCK_FILE)
    folder = _folder(downloads, jars)

    def missing_ones() -> list[dict[str, Any]]:
        return [jar for jar in jars if not (folder / _file_name(jar)).exists()]
    if missing_ones():
        folder.mkdir(parents=True, exist_ok=True)
        with _acquired(FileLock(downloads / DOWNLOADING),
                       lambda: progress(len(jars) - len(missing_ones()), len(jars))):
            wanted = missing_ones()
            # Left by a download that was killed: a part of a jar would be mistaken for the whole.
            shutil.rmtree(downloads / "maven", ignore_errors=True)
            _download(wanted, downloads / "maven", folder,
                      lambda done: progress(len(jars) - len(wanted) + done, len(jars)))
            shutil.rmtree(downloads / "maven", ignore_errors=True)
    return folder


def _acquired(downloading: FileLock, waiting: Callable[[], None]) -> AbstractContextManager[object]:
    """Acquire a lock, which ``with`` releases; while another process has it, call ``waiting`` once a second."""
    while True:
        try:
            return downloading.acquire(timeout=1)
        except Timeout:
            waiting()


def _download(jars: list[dict[str, Any]], repository: Path, folder: Path, done: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        for count, _ in enumerate(_all(pool, [partial(_fetch, jar, repository, folder) for jar in jars]), 1):
            done(count)


def _all(pool: ThreadPoolExecutor, calls: Iterable[Callable[[], None]]) -> Iterable[None]:
    """Yield as the calls end, in order. After a failure or Ctrl-C, calls that have not started are dropped."""
    futures = [pool.submit(call) for call in calls]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def _fetch(jar: dict[str, Any], repository: Path, folder: Path) -> None:
    name = _file_name(jar)
    project = _jgo("maven").MavenContext(repo_cache=repository).project(jar["groupId"], jar["artifactId"])
    artifact = project.at_version(jar["version"]).artifact(jar.get("classifier", ""), jar["packaging"])
    path = Path(artifact.cached_path)
    try:
        artifact.resolve()
    except Exception as error:  # jgo, requests and the file system raise different errors
        path.unlink(missing_ok=True)        # a partial file would be mistaken for the whole next time
        raise RigError(f"{name} of Neo4j could not be downloaded: {error}",
                       "check the network, the proxy and the disk with `rig doctor`, then try again: finished "
                       "downloads are kept") from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != jar["sha256"]:
        path.unlink()
        raise RigError(f"{name} of Neo4j is not the file that the lock names (SHA-256 {found[:12]}…, "
                       f"expected {jar['sha256'][:12]}…)", "a proxy or a mirror on the way changes files")
    path.replace(folder / name)


def _locked(lock_file: Path) -> list[dict[str, Any]]:
    dependencies: list[dict[str, Any]] = tomllib.loads(lock_file.read_text(encoding="utf-8"))["dependencies"]
    return dependencies


def _jgo(module: str) -> Any:
    """Import a part of jgo when it is needed: it is slow, and warns about folders that the rig does not use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return importlib.import_module(f"jgo.{module}")


def _folder(downloads: Path, jars: list[dict[str, Any]]) -> Path:
    return downloads / f"{jars[0]['artifactId']}-{jars[0]['version']}"


def _file_name(jar: dict[str, Any]) -> str:
    classifier = f"-{jar['classifier']}" if jar.get("classifier") else ""
    return f"{jar['groupId']}.{jar['artifactId']}-{jar['version']}{classifier}.jar"


def lock(wanted: str, lock_file: Path = LOCK_FILE) -> None:
    """Resolve ``group:artifact:version`` again, transitively, and write its lock file. Takes some minutes."""
    env = _jgo("env")
    with tempfile.TemporaryDirectory() as folder:
        context = _jgo("maven").MavenContext(repo_cache=Path(folder, "maven"))
        builder = env.EnvironmentBuilder(context=context, cache_dir=Path(folder, "jgo"),
                                         link_strategy=env.LinkStrategy.HARD)
        environment = builder.from_endpoint(wanted)
        shutil.copy(environment.lock_path, lock_file)


if __name__ == "__main__":
    lock(sys.argv[1], *map(Path, sys.argv[2:]))
