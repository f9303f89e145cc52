"""What a test comes to: percentiles, shares, what was opened and what is left, from lines that are known."""

import pytest

from rig.load import figures
from rig.load.figures import opened_by_run, outcome
from rig.load.records import Resources, Thresholds
from rig.load.verdict import broken
from tests.rig.load.lines import run, sample


def test_runs_that_did_not_finish_are_failures_and_have_no_part_in_the_latencies() -> None:
    found = outcome([run(0, 2), run(1, 4), run(2, None), run(3, 99, state="failed", reason="tasks failed")], [])
    assert (found.arrivals, found.succeeded, found.failed, found.failure_share) == (4, 2, 2, 0.5)
    assert (found.latencies["run"].count, found.latencies["run"].highest) == (2, 4)
    assert found.reasons == {"too slow": 1, "tasks failed": 1}


def test_runs_that_the_user_stopped_are_neither() -> None:
    found = outcome([run(0, 2), run(1, None, state="interrupted", reason="stopped")], [])
    assert (found.failed, found.interrupted, found.failure_share, found.reasons) == (0, 1, 0, {})


def test_a_latency_that_is_not_there_is_none_and_not_zero() -> None:
    found = outcome([run(0, None, state="not started")], [])
    assert found.latencies["run"].p95 is None
    assert found.connections_opened is None
    assert found.connections_left is None


def test_what_was_opened_is_the_last_count_and_what_is_left_is_seen_5_s_after_the_last_run() -> None:
    series = [sample(float(t), open=t % 7, opened=2 * t) for t in range(20)]
    found = outcome([run(0, 4), run(5, 5)], series)
    assert (found.connections_opened, found.connections_opened_per_run) == (38, 19)
    assert found.connections_left == 15 % 7
    assert found.connections_peak == 6


def test_what_was_open_before_the_test_is_not_left_by_it() -> None:
    assert outcome([run(0, 4)], [sample(0.0, open=4), sample(5.0, open=9), sample(10.0, open=6)]).connections_left == 2
    assert outcome([run(0, 4)], [sample(0.0, open=4), sample(10.0, open=3)]).connections_left == 0


def test_of_what_is_opened_each_run_in_flight_has_the_same_part() -> None:
    # One connection a second: alone until 4, two of them until 6, alone again until 10.
    flying = {t: 1 if t < 4 or t >= 6 else 2 for t in range(10)}
    series = [sample(float(t), opened=t, triggered=flying.get(t, 0)) for t in range(11)]
    first, second = run(0, 6), run(4, 6)
    shares = [opened_by_run(one, series) for one in (first, second)]
    assert shares == [pytest.approx(5), pytest.approx(5)]
    assert opened_by_run(first, [sample(1.0), sample(2.0)]) is None


def test_beside_others_only_what_a_look_has_seen_is_counted_from_the_tests_beginning() -> None:
    series = [sample(float(t), opened=3 * t, seen=t, others=0 if t < 5 else 2) for t in range(11)]
    counted = figures.counted(series)
    found = outcome([run(0, 4), run(5, 5)], counted)
    assert (found.connections_opened, found.connections_opened_per_run, found.others) == (10, 5, 2)
    assert found.connections_lower_bound
    assert opened_by_run(run(0, 4), counted) == pytest.approx(4)


def test_without_others_the_count_is_by_the_servers_ids() -> None:
    series = [sample(float(t), opened=3 * t, seen=t, others=0) for t in range(11)]
    found = outcome([run(0, 4)], figures.counted(series))
    assert (found.connections_opened, found.connections_lower_bound, found.others) == (30, False, 0)
    assert outcome([], [sample(0.0)]).others is None


def test_on_a_server_that_others_use_the_count_is_a_lower_bound_whatever_was_seen() -> None:
    assert outcome([run(0, 4)], [sample(0.0, opened=0, seen=0, others=0)], shared=True).connections_lower_bound


def test_connections_that_were_not_counted_are_none_and_the_last_reason_is_said() -> None:
    series = [sample(0.0), sample(1.0, trouble="not watched"), sample(2.0)]
    found = outcome([run(0, 4)], series, shared=True)
    assert (found.connections_opened, found.connections_lower_bound) == (None, False)
    assert found.connections_reason == "not watched"
    assert outcome([], []).connections_reason == "Neo4j: no look was taken"
    assert outcome([run(0, 4)], [sample(0.0, opened=0, trouble="Flower does not answer")]).connections_reason is None


def test_what_was_opened_is_not_known_where_tasks_had_started_before_the_first_look() -> None:
    runs = [run(0.0, 9.0, queued=3.0), run(5.0, 9.0, queued=2.0)]
    late = outcome(runs, [sample(float(t), opened=t - 4) for t in range(4, 11)])
    assert (late.connections_opened, late.connections_opened_per_run) == (None, None)
    assert late.connections_reason == figures.LATE
    assert outcome(runs, [sample(float(t), open=2, opened=t - 4) for t in range(4, 30)]).connections_left is None
    in_time = outcome(runs, [sample(1.0), *(sample(float(t), opened=t - 2) for t in range(2, 11))])
    assert (in_time.connections_opened, in_time.connections_reason) == (8, None)


def test_what_was_opened_is_not_known_where_neo4j_was_no_longer_seen_at_the_end() -> None:
    runs = [run(0.0, 9.0, queued=3.0), run(30.0, 9.0, queued=3.0)]
    blind = outcome(runs, [sample(float(t), open=2, opened=t) for t in range(34)] + [sample(45.0)])
    assert (blind.connections_opened, blind.connections_reason) == (None, figures.UNSEEN_END)
    away = sample(45.0, trouble="Neo4j: away")
    told = outcome(runs, [*(sample(float(t), open=2, opened=t) for t in range(34)), away])
    assert told.connections_reason == f"{figures.UNSEEN_END}: Neo4j: away"
    stopped = outcome(runs, [sample(float(t), open=2, opened=t) for t in range(36)])     # the last queries were before
    assert (stopped.connections_opened, stopped.connections_reason) == (35, None)


def test_opened_per_second_is_a_mean_of_ten_seconds_and_begins_again_where_the_count_does() -> None:
    steady = [sample(float(t), opened=3 * t) for t in range(20)]
    assert figures.opened_per_second(steady) == [None, *[pytest.approx(3.0)] * 19]
    assert figures.opened_per_second([sample(1.0, opened=90), sample(2.0, opened=0)]) == [None, None]
    assert figures.opened_per_second([sample(1.0), sample(2.0), sample(3.0, opened=1)]) == [None] * 3


def test_a_closed_loop_counts_from_when_as_many_have_ended_as_are_in_flight_until_none_may_start() -> None:
    # Two users, one run a second each, two seconds of which fill the pipeline: none counts that ends after 20.
    runs = [run(float(due), 2.0 if due < 2 else 1.0) for due in range(25)]
    found = figures.saturated(runs, 2, until=20.0)
    assert (found.users, found.seconds, found.throughput) == (2, 17.0, 1.0)


def test_a_closed_loop_that_was_too_short_has_no_throughput() -> None:
    assert figures.saturated([run(0, 5), run(0, 5)], 2, until=5.0).throughput is None
    assert figures.saturated([run(0, 5)], 2, until=60.0).throughput is None
    assert figures.saturated([run(0, 5), run(0, None)], 2, until=60.0).throughput is None


def test_a_minute_of_a_soak() -> None:
    taken = Resources(processes=3, descriptors=40, memory=1000)
    series = [sample(float(t), open=t // 60, resources=taken) for t in range(0, 240, 10)]
    assert figures.steady_figures(series, 3) == {
        "connections": 2, "processes": 3, "descriptors": 40, "memory": 1000}
    assert figures.steady_figures(series, 9)["memory"] is None


@pytest.mark.parametrize(("limits", "said"), [
    ({"failure_share": 0.5}, []),
    ({"failure_share": 0.2}, ["1 of 4 DAG runs failed (limit 20%): too slow (1)"]),
    ({"failure_share": None, "run_p95": 6.0}, []),
    ({"failure_share": None, "run_p95": 5.5}, ["the longest DAG run: 6 s (limit 5.5 s)"]),
    ({"failure_share": None, "connections_left": 3}, []),
    ({"failure_share": None, "connections_left": 2},
     ["connections left 5 s after the last DAG run: 3 (limit 2)"])])
def test_thresholds_are_broken_above_their_limit(limits: dict[str, float], said: list[str]) -> None:
    runs = [run(0, 4), run(1, 5), run(2, 6), run(3, None)]
    assert broken(outcome(runs, [sample(0.0, open=0), sample(20.0, open=3)]), Thresholds.model_validate(limits)) == said


def test_a_figure_that_is_missing_keeps_no_threshold() -> None:
    assert broken(outcome([run(0, 4)], []), Thresholds(connections_left=100)) == [
        "connections left 5 s after the last DAG run: not known (limit 100)"]


def test_a_test_that_lost_a_process_is_not_whole_whatever_its_limits_are() -> None:
    assert broken(outcome([run(0, 4)], []), Thresholds(failure_share=None), lost=1, processes=2) == [
        "1 of Locust's 2 processes ended during the test: the rest of their DAG runs is missing"]


def test_a_test_without_a_dag_run_is_none() -> None:
    assert broken(outcome([], []), Thresholds()) == ["no DAG run was started"]


def test_the_95th_percentile_of_few_runs_is_called_a_maximum() -> None:
    few, many = (figures.latency([float(value) for value in range(count)]) for count in (19, 20))

    assert (few.p95, few.highest, few.tail) == (None, 18, 18)
    assert (many.p95, many.tail) == (18.05, 18.05)
    many_runs = outcome([run(due, 4 if due else 9) for due in range(20)], [])
    assert broken(many_runs, Thresholds(failure_share=None, run_p95=4.0)) == [
        "the 95th percentile of the DAG runs' duration: 4.25 s (limit 4 s)"]
