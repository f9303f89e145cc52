"""Who may come in, and what guessing costs."""

import itertools

import pytest

from worker_init.door import RATE_LIMIT, UNAUTHORIZED, Door
from worker_init.targets import Credentials, Target

LOCAL = Credentials("worker", "random")


def token(name: str | None, password: str | None, scheme: str = "basic") -> dict[str, str | None]:
    return {"scheme": scheme, "principal": name, "credentials": password}


def door(username: str = "neo4j", password: str = "upstream") -> Door:
    return Door(LOCAL, Target("bolt://far", username, password))


@pytest.mark.parametrize("given", [token(*LOCAL), token("neo4j", "upstream")])
def test_the_local_credentials_and_the_upstreams_come_in(given: dict[str, str | None]) -> None:
    assert door().judge(given, 0.0).failure is None


@pytest.mark.parametrize("given", [
    token("neo4j", "random"), token("worker", "upstream"), token("neo4j", ""), token(None, None), {},
    token("worker", "random", "none"), token("worker", "random", "kerberos"), token("", "neo4j\0upstream"),
    token("neo4j\0upstream", ""), token("\ud800", "")])
def test_nobody_else_does(given: dict[str, str | None]) -> None:
    assert door().judge(given, 0.0).failure is UNAUTHORIZED


# Case 35: an upstream without authentication let everybody in.
@pytest.mark.parametrize("given", [token("", ""), token(None, None), token("", "", "none"), {"scheme": "none"}])
def test_an_upstream_without_a_user_lets_nobody_in(given: dict[str, str | None]) -> None:
    assert door("", "").judge(given, 0.0).failure is UNAUTHORIZED


# Case 16: the upstream's password could be guessed 1,700 times a second.
def test_after_three_wrong_ones_the_upstreams_own_are_refused_for_a_while() -> None:
    checked = door()
    for _ in range(3):
        assert checked.judge(token("neo4j", "guess"), 0.0).failure is UNAUTHORIZED
    assert checked.judge(token("neo4j", "guess"), 1.0).failure is RATE_LIMIT
    assert checked.judge(token("neo4j", "upstream"), 2.0).failure is RATE_LIMIT
    assert checked.judge(token(*LOCAL), 2.0).failure is None
    assert checked.judge(token("neo4j", "upstream"), 7.0).failure is None


def test_right_ones_begin_the_count_again() -> None:
    checked = door()
    for given in ("guess", "guess", "upstream", "guess", "guess"):
        checked.judge(token("neo4j", given), 0.0)
    assert checked.judge(token("neo4j", "upstream"), 0.0).failure is None


def test_wrong_ones_cost_time_that_grows_to_a_bound() -> None:
    checked = door()
    delays = [checked.judge(token("neo4j", "guess"), 0.0).delay for _ in range(40)]
    assert delays[:3] == [0.0, 0.0, 0.0]
    assert all(before <= after for before, after in itertools.pairwise(delays))
    assert delays[3] > 0
    assert delays[-1] == 5.0
