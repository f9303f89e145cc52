"""What the environment may say, and what tasks then find in theirs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from worker_init.errors import BadSetting
from worker_init.settings import PREFIX, VARIABLES, Settings, notes_on
from worker_init.targets import Address, Credentials, Upstreams, parse_connection, upstreams_of
from worker_init.tasks import driver

HERE = Address("127.0.0.1", 4711, Credentials("local", "secret"))


def test_every_variable_has_a_default_that_can_be_used() -> None:
    settings = Settings.from_environment({})
    assert (settings.scope, settings.disabled, repr(settings.connection_ids)) == ("process", False, "*")
    assert all(variable.meaning for variable in VARIABLES)


@pytest.mark.parametrize(("name", "value", "said"), [
    ("SCOPE", "task", "use process or shared"), ("MAX_SIZE", "0", "use a whole number of at least 1"),
    ("MAX_SIZE", "many", "use a whole number of at least 1"), ("MAX_SIZE", "1.5", "use a whole number of at least 1"),
    ("IDLE_TIMEOUT", "-1", "use a number of seconds above 0"), ("IDLE_TIMEOUT", "nan", "use a number of seconds"),
    ("IDLE_TIMEOUT", "long", "use a number of seconds above 0"), ("DRAIN_TIMEOUT", "inf", "use a number of seconds"),
    ("METRICS_PORT", "http", "use a port, 0 for any free one, or nothing"), ("DISABLED", "perhaps", "use 1 or 0"),
    ("PRELOAD", "none,pandas", "use none, or names"), ("PRELOAD", "./etl.py", "is not the name of a module")])
def test_a_bad_value_is_named_with_what_is_expected(name: str, value: str, said: str) -> None:
    with pytest.raises(BadSetting, match=f"^{PREFIX}{name}='{value}' cannot be used: .*{said}"):
        Settings.from_environment({PREFIX + name: value})


def test_the_names_of_modules_keep_their_case() -> None:
    settings = Settings.from_environment({"WORKER_INIT_PRELOAD": " pandas , My.Company"})
    assert settings.preload == ("pandas", "My.Company")


def test_the_earlier_name_of_a_scope_is_accepted_and_said_to_be_one() -> None:
    earlier = {"WORKER_INIT_SCOPE": "worker"}
    assert Settings.from_environment(earlier).scope == "shared"
    assert notes_on(earlier) == ("WORKER_INIT_SCOPE=worker is an earlier name: use WORKER_INIT_SCOPE=shared",)
    assert notes_on({}) == notes_on({"WORKER_INIT_SCOPE": "shared"}) == ()


def test_the_default_upstream() -> None:
    upstreams = upstreams_of({"NEO4J_URI": "bolt://db", "NEO4J_USERNAME": "u", "NEO4J_PASSWORD": "p",
                              "NEO4J_DATABASE": "sales"}, ())
    assert upstreams.environment([HERE]) == {
        "NEO4J_WORKER_URI": "bolt://127.0.0.1:4711", "NEO4J_WORKER_USERNAME": "local",
        "NEO4J_WORKER_PASSWORD": "secret", "NEO4J_WORKER_DATABASE": "sales"}


@pytest.mark.parametrize(("value", "uri"), [
    ("neo4j://u:p@db:7687/sales", "bolt://db:7687"),
    ("neo4j://u:p%2Fq@db/?neo4j_scheme=true&certs_trusted_ca=true", "neo4j+s://db:7687"),
    ("neo4j://u:p@db?__extra__=%7B%22certs_self_signed%22%3A+true%7D", "bolt+ssc://db:7687"),
    (json.dumps({"conn_type": "neo4j", "host": "db", "port": "7688", "extra": {"encrypted": True}}), "bolt+s://db:7688"),
    (json.dumps({"conn_type": "neo4j", "host": "db", "extra": '{"neo4j_scheme": true}'}), "neo4j://db:7687"),
    (json.dumps({"host": "db"}), "bolt://db:7687"),
    ("bolt+s://u:p@db", "bolt://db:7687"),      # the hook reads no type: it would not use TLS either
])
def test_a_connection_leads_where_the_hook_would_go(value: str, uri: str) -> None:
    assert parse_connection(value).target.uri == uri


@pytest.mark.parametrize("value", [
    None, "", "{", "postgres://u:p@db/x", "neo4j://", '{"conn_type": "neo4j"}', "neo4j://u:hidden@db:port",
    '{"conn_type": "neo4j", "host": "h", "port": "hidden"}', '{"conn_type": "neo4j", "host": "h", "extra": "[1]"}',
    '{"conn_type": "neo4j", "host": "bolt://h"}', '{"conn_type": "neo4j", "host": "u:hidden@h"}', "[]"])
def test_a_connection_that_cannot_be_resolved_stays_as_it_is(value: str | None) -> None:
    with pytest.raises(BadSetting) as caught:
        parse_connection(value)
    assert "hidden" not in str(caught.value)
    upstreams = upstreams_of({"AIRFLOW_CONN_A": value or ""}, ("a",))
    assert upstreams.environment([]) == {}
    assert len(upstreams.notes) == 1


@pytest.mark.parametrize("uri", ["db", "http://db", "bolt://", "bolt://db:0", "bolt://db:x", "bolt://a b", "bolt://[",
                                 "bolt://u:hidden@db", "bolt+routing://db", "postgres://u:hidden@db"])
def test_an_address_that_no_driver_can_use_is_named_without_its_secrets(uri: str) -> None:
    with pytest.raises(BadSetting, match="NEO4J_URI") as caught:
        upstreams_of({"NEO4J_URI": uri}, ())
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(("given", "used"), [
    ({}, ("", "")), ({"NEO4J_PASSWORD": "p"}, ("neo4j", "p")), ({"NEO4J_USERNAME": "u"}, ("u", "")),
    ({"NEO4J_USERNAME": "u", "NEO4J_PASSWORD": "p"}, ("u", "p"))])
def test_who_logs_on_upstream(given: dict[str, str], used: tuple[str, str]) -> None:
    (target,) = upstreams_of({"NEO4J_URI": "bolt://db"} | given, ()).targets
    assert (target.username, target.password) == used


@pytest.mark.parametrize("value", ["neo4j://u@db", '{"host": "db", "login": "u"}', '{"host": "db", "password": "p"}'])
def test_without_a_login_and_a_password_the_hook_logs_nobody_on(value: str) -> None:
    assert parse_connection(value).target.username == ""


def test_ids_share_an_upstream_only_where_server_and_identity_are_the_same() -> None:
    environment = {"AIRFLOW_CONN_A": "neo4j://u:p@one", "AIRFLOW_CONN_B": "neo4j://u:p@two",
                   "AIRFLOW_CONN_C": "neo4j://u:p@one/other", "AIRFLOW_CONN_D": "neo4j://v:p@one"}
    upstreams = upstreams_of(environment, ("a", "b", "c", "d"))
    assert [at for _, at, _ in upstreams.ids] == [0, 1, 0, 2]
    assert len(upstreams.targets) == 3


def test_tls_extras_are_taken_off_the_local_hop_and_the_rest_is_kept() -> None:
    connection = parse_connection(json.dumps({
        "conn_type": "neo4j", "host": "db", "schema": "sales", "login": "u", "password": "p",
        "extra": {"certs_trusted_ca": True, "encrypted": True, "neo4j_scheme": True, "own": 1}}))
    exported = json.loads(connection.through(HERE))
    assert exported == {"conn_type": "neo4j", "host": "127.0.0.1", "port": 4711, "login": "local",
                        "password": "secret", "schema": "sales", "extra": {"neo4j_scheme": True, "own": 1}}


@pytest.mark.parametrize(("value", "reason"), [
    ("neo4j://bolt://u:hidden@db:7687/sales", "has a second scheme"),       # `airflow connections export` writes it
    ("bolt://neo4j+s://u:hidden@db", "has a second scheme"),
    ("neo4j://u:hidden@neo4j%3A%2F%2Fdb:7687", "has a scheme in its host"),
    (json.dumps({"conn_type": "neo4j", "host": "bolt://db", "password": "hidden"}), "has a scheme in its host"),
    ("neo4j://u:hidden@db/?callback=http://x", "has a second scheme"),      # Airflow does not read it either
    ("neo4j://u:hidden@[::1]:7687", "needs its IPv6 address in brackets"),  # Airflow takes them off, and the hook fails
    (json.dumps({"host": "::1", "password": "hidden"}), "needs its IPv6 address in brackets"),
])
def test_a_form_that_the_hook_itself_cannot_use_is_left_alone_and_said_to_be_one(value: str, reason: str) -> None:
    upstreams = upstreams_of({"AIRFLOW_CONN_A": value}, ("a",))
    assert (upstreams.targets, upstreams.environment([])) == ((), {})
    (note,) = upstreams.notes
    assert note.startswith("connection a stays as it is: AIRFLOW_CONN_A ")
    assert reason in note
    assert "hidden" not in note


def test_an_ipv6_address_in_brackets_is_used() -> None:
    assert parse_connection(json.dumps({"host": "[::1]"})).target.uri == "bolt://[::1]:7687"


def test_a_routing_context_is_kept_where_the_driver_takes_one_and_named_where_it_does_not() -> None:
    (target,) = upstreams_of({"NEO4J_URI": "neo4j+s://db?policy=eu"}, ()).targets
    assert target.uri == "neo4j+s://db?policy=eu"
    with pytest.raises(BadSetting, match=r"NEO4J_URI holds a routing context \(\?…\), which only neo4j:// can have"):
        upstreams_of({"NEO4J_URI": "bolt://db?policy=eu"}, ())


def test_no_repr_shows_a_password() -> None:
    upstreams: Upstreams = upstreams_of({"AIRFLOW_CONN_A": "neo4j://u:hidden@db", "NEO4J_URI": "bolt://x",
                                         "NEO4J_PASSWORD": "hidden"}, ("a",))
    assert "hidden" not in repr(upstreams)
    assert "secret" not in repr(HERE)


def test_without_an_upstream_a_task_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEO4J_URI", "NEO4J_WORKER_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadSetting, match="NEO4J_URI"):
        driver()


def test_importing_the_hooks_imports_no_driver_and_does_nothing() -> None:
    code = ("import os, sys, threading; before = dict(os.environ); import worker_init.hooks; "
            "print('neo4j' in sys.modules, os.environ == before, threading.active_count(), "
            "'rig' in sys.modules, 'patterns' in sys.modules)")
    checkout = Path(__file__).resolve().parents[2]
    shown = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "True", "1", "False", "False"]
