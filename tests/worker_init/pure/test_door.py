"""Who may come in, and what guessing costs."""

import heapq
import itertools

import pytest

from worker_init.door import MOST_A_SECOND, MOST_DELAYED, RATE_LIMIT, UNAUTHORIZED, Door
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
    checked, now, delays = door(), 0.0, list[float]()
    for _ in range(10):
        delays.append(checked.judge(token("neo4j", "guess"), now).delay)
        now += delays[-1]
    assert delays[:3] == [0.0, 0.0, 0.0]
    assert all(before <= after for before, after in itertools.pairwise(delays))
    assert delays[3] > 0
    assert delays[-1] == 5.0


@pytest.mark.parametrize("guessing", [1, 10, MOST_DELAYED // 2])
def test_however_many_guess_at_once_so_many_are_answered_in_a_second(guessing: int) -> None:
    """Each tries again when it has its answer; the first three wrong ones have theirs at once."""
    checked, seconds, answered = door(), 60.0, 0
    tries = [0.0] * guessing
    while tries[0] < seconds:
        now = heapq.heappop(tries)
        verdict = checked.judge(token("neo4j", "guess"), now)
        answered += 1
        assert verdict.why == "wrong credentials"
        heapq.heappush(tries, now + verdict.delay)
    assert answered <= 3 * (1 + seconds / 5) + guessing + MOST_A_SECOND * seconds


def test_of_those_who_guess_so_many_wait_and_others_are_refused_at_once() -> None:
    checked = door()
    verdicts = [checked.judge(token("neo4j", "guess"), 0.0) for _ in range(3 + 2 * MOST_DELAYED)][3:]
    waiting = [verdict for verdict in verdicts if verdict.delay]
    assert len(waiting) <= MOST_DELAYED
    assert len(waiting) > MOST_DELAYED / 2
    refused = verdicts[len(waiting):]
    assert {(verdict.failure, verdict.delay) for verdict in refused} == {(RATE_LIMIT, 0.0)}
    assert {verdict.why for verdict in refused} == {"wrong credentials while 400 others waited for their answer"}
    assert checked.judge(token(*LOCAL), 0.0).failure is None
    assert checked.judge(token("neo4j", "guess"), 1.0).delay > 0, "a second later there is room again"
