"""The jars of Neo4j: exactly the locked ones, downloaded once, and one clear line where that cannot be."""

import re
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rig.errors import RigError
from rig.settings import Settings
from rig.stack import neo4j_jars
from testing.waiting import wait_until
from tests.rig.maven_mirror import GROUP, VERSION, Mirror, small_server, unreachable

CYPHER_SHELL = Path(__file__).parents[1] / "worker_init" / "cypher-shell.lock.toml"
JARS = {f"{GROUP}.{name}-{VERSION}.jar" for name in ("neo4j", "cypher")}


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    with small_server(tmp_path / "lock.toml", monkeypatch) as served:
        yield served


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in unreachable().items():
        monkeypatch.setenv(name, value)


def ensure(downloads: Path) -> Path:
    return neo4j_jars.ensure(downloads, lambda *_: None)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.jar")}


# --- the lock file ---------------------------------------------------------------------------------


def locked() -> list[dict[str, str]]:
    dependencies: list[dict[str, str]] = tomllib.loads(neo4j_jars.LOCK_FILE.read_text())["dependencies"]
    return dependencies


def test_every_jar_of_the_lock_file_has_its_checksum() -> None:
    assert len(locked()) == 237
    assert [jar for jar in locked() if not re.fullmatch("[0-9a-f]{64}", jar["sha256"])] == []


@pytest.mark.parametrize("path", [neo4j_jars.LOCK_FILE, CYPHER_SHELL], ids=lambda path: path.name)
def test_the_lock_file_names_no_registry(path: Path) -> None:
    assert not re.search(r"https?:|://|repo[.0-9-]|file:|/root|/home", path.read_text())


def test_no_two_jars_would_have_the_same_file(tmp_path: Path) -> None:
    keys = [(jar["groupId"], jar["artifactId"], jar["version"], jar.get("classifier")) for jar in locked()]
    assert len(set(keys)) == len(keys)
    assert neo4j_jars.missing(tmp_path) == len(keys)


def test_the_version_is_the_one_that_was_asked_for() -> None:
    assert neo4j_jars.version() == "2026.08.1"


# --- downloads -------------------------------------------------------------------------------------


def test_what_is_missing_is_downloaded_with_its_progress(mirror: Mirror, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    folder = neo4j_jars.ensure(tmp_path / "kept", lambda done, total: told.append((done, total)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"{GROUP}.{name}-{VERSION}.jar": jar for name, jar in mirror.jars.items()}
    assert told == [(1, 2), (2, 2)]
    assert neo4j_jars.missing(tmp_path / "kept") == 0


def test_nothing_else_is_left_of_a_download(mirror: Mirror, tmp_path: Path) -> None:
    folder = ensure(tmp_path / "kept")
    assert {*(tmp_path / "kept").iterdir()} == {folder, tmp_path / "kept" / neo4j_jars.DOWNLOADING}


def test_of_two_at_once_one_downloads_and_the_other_waits_and_says_how_far_it_is(
        mirror: Mirror, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    mirror.may_answer.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ensure, tmp_path)
        wait_until(lambda: len(mirror.asked) == 2, "the first one downloads")
        second = pool.submit(neo4j_jars.ensure, tmp_path, lambda done, total: told.append((done, total)))
        try:
            wait_until(lambda: told or len(mirror.asked) > 2, "the second one waits")
        finally:
            mirror.may_answer.set()
        assert names(first.result()) == names(second.result()) == JARS
    assert sorted(mirror.asked) == ["cypher", "neo4j"]
    assert told[0] == (0, 2)


def test_what_is_there_is_not_downloaded_again(mirror: Mirror, tmp_path: Path) -> None:
    folder = ensure(tmp_path)
    (folder / f"{GROUP}.cypher-{VERSION}.jar").unlink()
    mirror.asked.clear()
    assert neo4j_jars.missing(tmp_path) == 1
    ensure(tmp_path)
    ensure(tmp_path)
    assert mirror.asked == ["cypher"]


def test_a_jar_with_another_checksum_is_refused_and_named(mirror: Mirror, tmp_path: Path) -> None:
    mirror.jars["cypher"] = b"another language"
    with pytest.raises(RigError) as caught:
        ensure(tmp_path / "kept")
    assert str(caught.value).startswith(
        f"{GROUP}.cypher-{VERSION}.jar of Neo4j is not the file that the lock names (SHA-256 ")
    assert "\n" not in str(caught.value)
    assert names(next((tmp_path / "kept").glob("neo4j-*"))) <= JARS - {f"{GROUP}.cypher-{VERSION}.jar"}


def test_after_a_wrong_file_the_next_start_downloads_the_right_one(mirror: Mirror, tmp_path: Path) -> None:
    right, mirror.jars["cypher"] = mirror.jars["cypher"], b"another language"
    with pytest.raises(RigError):
        ensure(tmp_path / "kept")
    mirror.jars["cypher"] = right
    assert names(ensure(tmp_path / "kept")) == JARS


def test_a_download_that_breaks_off_is_one_line_and_no_jar(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut = {"cypher"}
    with pytest.raises(RigError) as caught:
        ensure(tmp_path / "kept")
    assert str(caught.value).startswith(f"{GROUP}.cypher-{VERSION}.jar of Neo4j could not be downloaded: ")
    assert "rig doctor" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert f"{GROUP}.cypher-{VERSION}.jar" not in names(tmp_path / "kept")


def test_after_a_download_that_broke_off_the_next_start_goes_on_with_what_is_missing(
        mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut = {"cypher"}
    with pytest.raises(RigError):
        ensure(tmp_path / "kept")
    mirror.cut.clear()
    mirror.asked.clear()
    assert names(ensure(tmp_path / "kept")) == JARS
    assert mirror.asked == ["cypher"], "what is there already is kept"


def test_after_a_kill_9_in_the_middle_of_a_download_the_next_start_works(mirror: Mirror, tmp_path: Path) -> None:
    part = tmp_path / "kept" / "maven" / GROUP.replace(".", "/") / "cypher" / VERSION / f"cypher-{VERSION}.jar"
    part.parent.mkdir(parents=True)
    part.write_bytes(mirror.jars["cypher"][:100])
    assert names(ensure(tmp_path / "kept")) == JARS


def test_without_network_it_is_one_line_that_says_what_to_check(no_network: None, tmp_path: Path) -> None:
    with pytest.raises(RigError) as caught:
        ensure(tmp_path)
    line = str(caught.value)
    assert re.match(r"\S+\.jar of Neo4j could not be downloaded: ", line)
    assert "check the network, the proxy and the disk with `rig doctor`" in line
    assert "\n" not in line
    assert not names(tmp_path)


def test_without_network_the_question_whether_it_can_be_reached_is_answered(no_network: None) -> None:
    with pytest.raises(OSError, match="proxy"):
        neo4j_jars.reach()
    assert neo4j_jars.host().endswith("maven.apache.org")


def test_with_all_jars_there_no_network_is_needed(no_network: None) -> None:
    downloads = Settings().downloads_dir
    if neo4j_jars.missing(downloads):
        pytest.skip("they are not there yet")
    told: list[int] = []
    folder = neo4j_jars.ensure(downloads, lambda done, _: told.append(done))
    assert folder.is_dir()
    assert not told
