"""What the official provider's hook makes of a connection is what the driver host makes of it."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from testing.servers import Neo4jServer, serving
from worker_init.backend_setting import too_old
from worker_init.targets import Address, Credentials, parse_connection, upstreams_of

hooks: Any = pytest.importorskip("airflow.providers.neo4j.hooks.neo4j", reason="the Neo4j provider is not installed")
HERE = Address("127.0.0.1", 4711, Credentials("local", "secret"))


def as_json(**fields: object) -> str:
    return json.dumps({"conn_type": "neo4j", "host": "db"} | fields)


CONNECTIONS = [
    "neo4j://u:p@db", "neo4j://u:p%2Fq@db:7688/sales", "neo4j://db", "neo4j://u@db", "bolt://u:p@db", "neo4j://u:p@DB/%C3%A9",
    "neo4j://u:p@db?neo4j_scheme=true", "neo4j://u:p@db/?certs_self_signed=true&other=1", "neo4j://u:p@db/?encrypted=false",
    "neo4j://u:p@db/?__extra__=%7B%22encrypted%22%3A+true%7D", as_json(), as_json(login="u", password="p", port="7688"),
    as_json(login="u"), as_json(login="u", password=""), as_json(login="u", password="p", extra="", schema="sales"),
    json.dumps({"host": "db", "login": "u", "password": "p"}),
    *(as_json(login="u", password="p", extra=extra) for extra in (
        {"neo4j_scheme": True}, {"encrypted": True}, {"encrypted": False}, {"certs_self_signed": True},
        {"certs_trusted_ca": True}, {"neo4j_scheme": True, "encrypted": True}, {"encrypted": "false"},
        {"neo4j_scheme": True, "certs_self_signed": True, "certs_trusted_ca": True, "encrypted": True},
        '{"neo4j_scheme": true}', {"neo4j_scheme": False, "other": {"k": 1}})),
]


def skip_what_airflow_3_1_reads_otherwise(value: str) -> None:
    query = parse_qsl(urlsplit(value).query)
    if version("apache-airflow-core").startswith("3.1.") and query and "__extra__" not in dict(query):
        pytest.skip("Airflow 3.1 reads the values of a URI's query as JSON, not as text as 3.0 and 3.2 do")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Keep what the hook asks the driver for, in place of a driver."""
    calls: list[Any] = []

    class Recorder:
        @staticmethod
        def driver(uri: str, auth: object, encrypted: object = False) -> None:
            calls.append((uri, auth, bool(encrypted)))
    monkeypatch.setattr(hooks, "GraphDatabase", Recorder)
    return calls


def scheme_with_tls(uri: str, encrypted: bool) -> str:
    """Return the URI that means the same as the hook's two arguments."""
    return uri.replace("://", "+s://", 1) if encrypted else uri


@pytest.mark.parametrize("value", CONNECTIONS)
def test_the_upstream_is_where_the_hook_would_have_gone(value: str, asked: list[Any],
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    skip_what_airflow_3_1_reads_otherwise(value)
    monkeypatch.setenv("AIRFLOW_CONN_OURS", value)
    hooks.Neo4jHook("ours").get_conn()
    (uri, auth, encrypted), = asked
    target = parse_connection(value).target
    assert target.uri == scheme_with_tls(uri, encrypted)
    # Airflow before 3.2 makes None of an empty password, so its hook logs on with nothing. A server that wants
    # credentials refuses both, and another one takes both.
    has_credentials = target.username and (target.password or not too_old())
    assert ((target.username, target.password) if has_credentials else None) == auth


@pytest.mark.parametrize("value", CONNECTIONS)
def test_the_hook_reads_what_is_exported(value: str, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    skip_what_airflow_3_1_reads_otherwise(value)
    monkeypatch.setenv("AIRFLOW_CONN_OURS", value)
    before = hooks.Neo4jHook.get_connection("ours")
    upstreams = upstreams_of({"AIRFLOW_CONN_OURS": value}, ("ours",))
    monkeypatch.setenv("AIRFLOW_CONN_OURS", upstreams.environment([HERE])["AIRFLOW_CONN_OURS"])
    hook = hooks.Neo4jHook("ours")
    hook.get_conn()
    scheme = "neo4j" if before.extra_dejson.get("neo4j_scheme") else "bolt"
    assert asked == [(f"{scheme}://127.0.0.1:4711", ("local", "secret"), False)]
    assert (hook.connection.schema or "") == (before.schema or "")
    kept = {key: value for key, value in before.extra_dejson.items()
            if key not in ("certs_self_signed", "certs_trusted_ca", "encrypted")}
    assert hook.connection.extra_dejson == kept


@pytest.mark.neo4j
@pytest.mark.parametrize("extra", [{}, {"neo4j_scheme": True, "encrypted": False}])
def test_a_hook_queries_through_the_host(extra: dict[str, Any], server: Neo4jServer, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    own = as_json(host="127.0.0.1", port=server.port, login=server.username, password=server.password, schema="neo4j",
                  extra=extra)
    upstreams = upstreams_of({"AIRFLOW_CONN_OURS": own}, ("ours",))
    with serving(tmp_path, upstreams.targets[0].uri, server.auth) as host:
        address = Address("127.0.0.1", host.port, Credentials(*host.auth))
        monkeypatch.setenv("AIRFLOW_CONN_OURS", upstreams.environment([address])["AIRFLOW_CONN_OURS"])
        hook = hooks.Neo4jHook("ours")
        assert hook.run("RETURN $x AS x", {"x": 5}) == [{"x": 5}]
        with pytest.raises(Exception, match="Invalid input"):
            hook.run("RETRUN 1")
        hook.client.close()
