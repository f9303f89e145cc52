"""The settings: what may be set, what is refused in one line, and that .env.example says all of it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import SecretStr, ValidationError

from rig import settings
from rig.errors import BadInput
from rig.settings import PROJECT, Settings, variable_of

EXAMPLE = PROJECT / ".env.example"
ASSIGNMENT = re.compile(r"^(?P<off># ?)?(?P<name>[A-Z0-9_]+)=(?P<value>.*)$")
FIELDS = tuple(Settings.model_fields)
SECRET = "correct-horse-battery"


class Documented(NamedTuple):
    """What `.env.example` says of a variable."""

    value: str
    is_commented_out: bool
    meaning: str


def documented() -> dict[str, Documented]:
    found: dict[str, Documented] = {}
    comment: list[str] = []
    for line in EXAMPLE.read_text().splitlines():
        if match := ASSIGNMENT.match(line):
            assert match["name"] not in found, f"{match['name']} is there twice"
            found[match["name"]] = Documented(match["value"], bool(match["off"]), " ".join(comment))
        comment = [*comment, line.removeprefix("# ")] if line.startswith("# ") and not match else []
    return found


def compose_variables() -> set[str]:
    files = (*PROJECT.glob("docker-compose*.yml"), *PROJECT.glob("docker/*.yml"))
    return {name for file in files for name in re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", file.read_text())}


@pytest.fixture(autouse=True)
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep the developer's own variables and .env out; the path is that of the test's .env."""
    for name in [*os.environ]:
        if name.startswith("RIG_") or name in map(variable_of, FIELDS):
            monkeypatch.delenv(name)
    path = tmp_path / ".env"
    monkeypatch.setitem(Settings.model_config, "env_file", path)
    settings.load.cache_clear()
    yield path
    settings.load.cache_clear()


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return the line that a person gets for these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput) as caught:
        settings.load()
    line = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in line
    assert ".env.example" in line, "it does not say how to fix it"
    return line


# --- .env.example ----------------------------------------------------------------------------------


@pytest.mark.parametrize("field", FIELDS)
def test_env_example_says_what_each_variable_means_and_its_default(field: str) -> None:
    entry = documented()[variable_of(field)]
    assert len(entry.meaning) > 10
    if Settings.model_fields[field].default is None:
        assert entry.is_commented_out, "it has no default: it would be set to something by a copy"
        assert "Not set: " in entry.meaning
    else:
        assert not entry.is_commented_out


def test_env_example_names_the_settings_and_the_variables_of_the_compose_files_and_nothing_else() -> None:
    assert set(documented()) == {variable_of(field) for field in FIELDS} | compose_variables()


def test_env_example_says_what_each_variable_of_the_compose_files_means_and_its_default() -> None:
    for name in compose_variables() - {variable_of(field) for field in FIELDS}:
        entry = documented()[name]
        assert entry.is_commented_out
        assert "Not set: " in entry.meaning, name


def test_env_example_copied_to_env_gives_the_defaults(dotenv: Path) -> None:
    dotenv.write_text(EXAMPLE.read_text())
    assert settings.load() == Settings(_env_file=None)


def test_nothing_needs_to_be_set(dotenv: Path) -> None:
    assert not dotenv.exists()
    config = settings.load()
    assert (config.neo4j_uri, config.host, config.slots) == (None, "127.0.0.1", 16)
    assert {getattr(config, f"{name}_port") for name in ("airflow", "flower", "postgres", "redis", "neo4j")} == {0}


# --- where a value comes from ----------------------------------------------------------------------


def test_env_is_read_and_the_environment_wins_over_it(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("RIG_SLOTS=4\nRIG_FLOWER_PORT=5555\n_AIRFLOW_WWW_USER_USERNAME=ann\n")
    monkeypatch.setenv("RIG_SLOTS", "8")
    config = settings.load()
    assert (config.slots, config.flower_port, config.airflow_username) == (8, 5555, "ann")


def test_another_file_than_env_is_read_if_it_is_named(
        dotenv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("NEO4J_URI=neo4j+s://mine.databases.neo4j.io\nRIG_SLOTS=4\n")
    (other := tmp_path / "other.env").write_text("RIG_SLOTS=8\n")
    monkeypatch.setenv("RIG_ENV_FILE", str(other))
    assert (settings.load().slots, settings.load().neo4j_uri) == (8, None)


def test_a_named_file_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIG_ENV_FILE", str(tmp_path / "none.env"))
    with pytest.raises(BadInput, match=r"^RIG_ENV_FILE is .*none.env, which does not exist — name an existing file"):
        settings.load()


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_URI", "")
    monkeypatch.setenv("RIG_SLOTS", "")
    assert settings.load() == Settings(_env_file=None)


def test_other_programs_variables_in_env_do_not_matter(dotenv: Path) -> None:
    dotenv.write_text("COMPOSE_PROJECT_NAME=demo\n")
    assert settings.load() == Settings(_env_file=None)


def test_they_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = settings.load()
    monkeypatch.setenv("RIG_SLOTS", "8")
    assert settings.load() is first


@pytest.mark.parametrize("folder", ["RIG_DATA_DIR", "AIRFLOW_PROJ_DIR", "RIG_CACHE_DIR"])
def test_a_relative_folder_begins_at_the_project_wherever_the_rig_is_called(
        folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(folder, "else/where")
    config = settings.load()
    assert PROJECT / "else/where" in {config.data_dir, config.airflow_proj_dir, config.cache_dir}


def test_folders_follow_the_ones_that_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("AIRFLOW_PROJ_DIR", "~/project")
    config = settings.load()
    assert config.stack_dir == tmp_path / "data/.stack"
    assert config.downloads_dir == tmp_path / "data/.cache"
    assert config.dags_folder == Path.home() / "project/dags"
    monkeypatch.setenv("RIG_CACHE_DIR", str(tmp_path / "kept"))
    settings.load.cache_clear()
    assert settings.load().downloads_dir == tmp_path / "kept"


# --- what they protect -----------------------------------------------------------------------------


def test_they_cannot_be_changed() -> None:
    config = settings.load()
    with pytest.raises(ValidationError, match="frozen"):
        config.slots = 3        # type: ignore[misc]


def test_passwords_are_not_in_any_text_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", SECRET)
    monkeypatch.setenv("_AIRFLOW_WWW_USER_PASSWORD", SECRET)
    config = settings.load()
    assert config.neo4j_password == config.airflow_password == SecretStr(SECRET)
    assert SECRET not in f"{config} {config!r} {config.model_dump()} {config.model_dump_json()}"


# --- bad values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variable", "value", "expected"), [
    ("RIG_SLOTS", "many", "valid integer"),
    ("RIG_SLOTS", "0", "greater than or equal to 1"),
    ("RIG_SLOTS", "1001", "less than or equal to 1000"),
    ("RIG_SLOTS", "2.5", "valid integer"),
    ("RIG_AIRFLOW_PORT", "65536", "less than or equal to 65535"),
    ("RIG_FLOWER_PORT", "-1", "greater than or equal to 0"),
    ("RIG_POSTGRES_PORT", "five", "valid integer"),
    ("RIG_REDIS_PORT", "65536", "less than or equal to 65535"),
    ("RIG_NEO4J_PORT", "65536", "less than or equal to 65535"),
    ("RIG_SAMPLE_INTERVAL", "0", "greater than 0"),
    ("RIG_SAMPLE_INTERVAL", "inf", "less than or equal to"),
    ("RIG_RUN_TIMEOUT", "soon", "valid number"),
    ("RIG_RUN_TIMEOUT", "nan", "than"),
    ("RIG_START_TIMEOUT", "-1", "greater than 0"),
    ("RIG_DRAIN_TIMEOUT", "1e12", "less than or equal to"),
    ("RIG_NEO4J_HEAP", "lots", "512m"),
    ("RIG_HOST", "::1", "expected an IPv4 address or a host name"),
    ("RIG_HOST", "http://localhost", "expected an IPv4 address or a host name"),
    ("RIG_INHERIT", "MY_KEY=5", "expected names of variables, with commas between them"),
    ("AIRFLOW_UID", "me", "valid integer"),
    ("AIRFLOW_UID", "-1", "greater than or equal to 0"),
    ("NEO4J_URI", "http://db:7474", "expected <scheme>://<host>[:<port>] with one of bolt, "),
    ("NEO4J_URI", "db:7687", "expected <scheme>://<host>[:<port>]"),
    ("NEO4J_URI", "bolt://", "expected <scheme>://<host>[:<port>]"),
    ("NEO4J_URI", "bolt://db:port", "expected <scheme>://<host>[:<port>]"),
    ("NEO4J_URI", "bolt://db:70000", "expected <scheme>://<host>[:<port>]"),
    ("NEO4J_URI", "bolt://[::1", "expected <scheme>://<host>[:<port>]"),
    ("NEO4J_URI", "neo4j://db:7687?policy=eu", "expected no routing context (?…)"),
])
def test_a_bad_value_is_one_line_that_names_the_variable_and_what_was_expected(
        variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, **{"NEO4J_PASSWORD": SECRET, variable: value})
    assert line.startswith(f"{variable}: ")
    assert expected in line


@pytest.mark.parametrize("uri", [
    f"bolt://neo4j:{SECRET}@db:7687", f"bolt://neo4j:{SECRET}#1@db:7687", f"bolt://neo4j:1/{SECRET}@db",
    f"bolt://neo4j:{SECRET}/1@db", f"bolt://:{SECRET}@db", f"http://neo4j:{SECRET}@db", f"neo4j:{SECRET}@db",
    f"bolt://neo4j:{SECRET}[@db", f"bolt://neo4j:{SECRET}℀@db",
])
def test_an_address_with_a_password_in_it_is_refused_and_not_repeated(
        uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, NEO4J_URI=uri, NEO4J_PASSWORD=SECRET)
    assert line.startswith("NEO4J_URI: the user and the password go into NEO4J_USERNAME and NEO4J_PASSWORD")
    assert SECRET not in line


def test_an_address_without_a_password_says_which_variable_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, NEO4J_URI="bolt://db").startswith("NEO4J_URI is set and NEO4J_PASSWORD is not")


def test_a_password_that_the_rigs_own_neo4j_would_not_take_is_refused_at_once(
        monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, NEO4J_PASSWORD="seven77")
    assert line.startswith("NEO4J_PASSWORD: ")
    assert "8 characters" in line
    assert "seven77" not in line
    monkeypatch.setenv("NEO4J_URI", "bolt://db")
    assert settings.load().neo4j_password, "another server may have other rules"


def test_one_port_for_two_services_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, RIG_AIRFLOW_PORT="8080", RIG_FLOWER_PORT="8080", RIG_REDIS_PORT="6379")
    assert line.startswith("RIG_AIRFLOW_PORT and RIG_FLOWER_PORT are the same")


@pytest.mark.parametrize(("metrics", "hosts", "named"), [
    ("8080", "", "WORKER_INIT_METRICS_PORT"), ("8079", "2", "WORKER_INIT_METRICS_PORT + 1"), ("8079", "", None),
    ("0", "2", None), ("of no use", "2", None)])
def test_metrics_that_services_inherit_have_a_port_of_their_own(
        metrics: str, hosts: str, named: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"WORKER_INIT_METRICS_PORT": metrics, "WORKER_INIT_HOSTS": hosts, "RIG_AIRFLOW_PORT": "8080"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings.load().airflow_port == 8080, "no service inherits it"
    settings.load.cache_clear()
    monkeypatch.setenv("RIG_INHERIT", "WORKER_INIT_METRICS_PORT,WORKER_INIT_HOSTS")
    if named is None:
        assert settings.load().airflow_port == 8080
    else:
        assert refused(monkeypatch).startswith(f"RIG_AIRFLOW_PORT and {named} are the same")


def test_the_right_addresses_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", SECRET)
    for scheme in ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc"):
        for host in ("db", "db.example.org:7687", "127.0.0.1:17687", "[::1]:7687"):
            monkeypatch.setenv("NEO4J_URI", f"{scheme}://{host}")
            settings.load.cache_clear()
            assert settings.load().neo4j_uri == f"{scheme}://{host}"


def test_an_env_that_is_not_text_is_one_line_that_names_the_file(dotenv: Path) -> None:
    dotenv.write_bytes(b"RIG_SLOTS=4\xff\n")
    with pytest.raises(BadInput) as caught:
        settings.load()
    assert str(dotenv) in str(caught.value)
    assert "UTF-8" in str(caught.value)


def test_the_command_line_prints_the_one_line_and_exits_with_2() -> None:
    done = subprocess.run([Path(sys.executable).with_name("rig"), "runs"], capture_output=True, text=True, check=False,
                          env={**os.environ, "RIG_SLOTS": "many"})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("rig: RIG_SLOTS: ")
    assert not done.stdout
