"""Which Airflow connections go through a shared driver."""

import pytest

from worker_init.connection_ids import ConnectionIds


@pytest.mark.parametrize(("text", "admitted", "left_alone"), [
    ("*", ["neo4j_default", "Sales", "a.b"], []),
    ("", [], ["neo4j_default", "sales"]),
    ("sales", ["sales", "SALES"], ["neo4j_default", "sales_2"]),
    ("sales_*, graph", ["sales_eu", "Graph"], ["sales", "neo4j_default"]),
    ("!export_*", ["neo4j_default", "sales"], ["export_eu", "EXPORT_US"]),
    ("*, !sales", ["neo4j_default"], ["sales"]),
    ("!sales, sales, graph", ["graph"], ["sales", "neo4j_default"]),
    ("shard_[12]", ["shard_1"], ["shard_3", "shard_12"]),
])
def test_ids_patterns_and_exclusions(text: str, admitted: list[str], left_alone: list[str]) -> None:
    ids = ConnectionIds.parse(text)
    assert [one for one in admitted if not ids.admits(one)] == []
    assert [one for one in left_alone if ids.admits(one)] == []


@pytest.mark.parametrize("text", ["!", "sales,!", "! ,a"])
def test_an_exclusion_of_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="after each !"):
        ConnectionIds.parse(text)


@pytest.mark.parametrize(("text", "looked_for"), [
    ("*", ("neo4j_default",)), ("", ()), ("sales,graph", ("sales", "graph")), ("sales,*", ("sales", "neo4j_default")),
    ("!neo4j_default", ()), ("sales_*", ()), ("a,b,!b", ("a",))])
def test_the_environment_is_searched_for_what_has_a_name(text: str, looked_for: tuple[str, ...]) -> None:
    assert ConnectionIds.parse(text).of_environment == looked_for


def test_only_a_name_speaks_for_a_connection_of_another_type() -> None:
    ids = ConnectionIds.parse("Old_Graph,sales_*")
    assert [one for one in ("old_graph", "sales_1", "other") if ids.names(one)] == ["old_graph"]
