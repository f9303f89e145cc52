"""The figures of small runs that can be worked out by hand, and of runs of which something is missing."""

from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from patterns.facts import EXECUTORS
from rig import metrics, records
from rig.errors import BadInput
from rig.metrics import METRICS, Summary, summarise
from rig.metrics.model import Contrast, MetricSummary
from rig.metrics.redact import redacted, text
from rig.metrics.timeline import Timeline, timeline
from rig.records import RunRecord, TaskRecord
from tests.rig import builders


def of(summary: Summary, name: str, cell: int = 0) -> MetricSummary:
    return summary.cells[cell].metrics[name]


def with_run(folder: Path, **changes: Any) -> Path:
    records.write_run(folder, RunRecord.model_validate({**records.read_run(folder).model_dump(), **changes}))
    return folder


# The hand-made run: window 1001 to 1011, samples each second; see builders.tiny_samples.

@pytest.mark.parametrize(("name", "expected"), [
    ("connections_opened", 4),
    ("connections_closed", 4),
    ("connections_peak", 3),
    ("connections_mean", 1.7),              # (1 + 2 + 3 + 3 + 4 * 2) / 10
    ("connections_idle", 1.5),              # (0 + 2 + 2 + 3 + 4 * 2) / 10
    ("connections_idle_peak", 3),
    ("connections_running", 0.2),           # (1 + 1) / 10
    ("idle_connection_seconds", 20),        # 15 in the window, then 2 + 2 + 1 until the last sample
    ("idle_connection_seconds_kept", 20),   # none was left in the last sample
    ("connections_left_5s", 1),             # 12: its task ended at 1006, it was there at 1012
    ("connections_left_30s", 0),
    ("connections_abandoned", None),
    ("drivers_created", 4),
    ("start_seconds", 0.75),                # 0.5 and 1
    ("first_result_seconds", 0.3),
    ("first_result_seconds_p90", None),     # two tasks are too few
    ("call_seconds", 0.25),                 # of 0.1, 0.2, 0.3, 0.6
    ("call_seconds_p90", None),
    ("task_seconds", 5.5),
    ("tasks_wrong", 0),
    ("scheduled_seconds", 2),               # of 1.5 and 2.5
    ("scheduled_seconds_p90", None),
    ("queued_seconds", 1.5),
    ("queued_seconds_p90", None),
    ("makespan_seconds", 10),
    ("cpu_per_task", 10.5),                 # 1 + 2 + … + 6 of the services that are in the sum, by two tasks
    ("cpu_tasks", 3),
    ("cpu_scheduler", 1),
    ("cpu_api_server", 0.5),
    ("cpu_dag_processor", None),
    ("cpu_worker", 1.5),
    ("cpu_driver_host", None),
    ("cpu_neo4j", 2),
    ("cpu_postgres", 2.5),
    ("cpu_redis", None),
    ("cpu_flower", 4),
    ("cpu_probe", 5),
])
def test_every_metric_of_a_run_worked_out_by_hand(tmp_path: Path, name: str, expected: float | None) -> None:
    metric = of(summarise(builders.tiny(tmp_path)), name)

    assert metric.raw == [pytest.approx(expected) if expected is not None else None]
    assert metric.median == metric.raw[0]
    assert (metric.reason is None) == (expected is not None)


def test_a_90th_percentile_takes_ten_tasks(tmp_path: Path) -> None:
    def found(folder: Path, tasks: int) -> MetricSummary:
        builders.tiny(folder)
        builders.rewrite(folder / records.TASKS_FILE, [
            builders.task(number, 1001, 1002 + number, 1012, row=builders.row(20 + number)) for number in range(tasks)])
        with_run(folder, plan=[planned.model_copy(update={"cell": planned.cell.model_copy(update={"tasks": tasks})})
                               for planned in records.read_run(folder).plan])
        return of(summarise(folder), "queued_seconds_p90")

    assert found(tmp_path / "ten", 10).median == pytest.approx(9.1)        # 9 + 0.1 * 1, of 1 to 10
    assert found(tmp_path / "nine", 9).reason == "9 of 10 values needed for a 90th percentile"


def test_that_the_table_above_has_every_metric() -> None:
    marks = test_every_metric_of_a_run_worked_out_by_hand.pytestmark  # type: ignore[attr-defined]
    assert [name for name, _ in marks[0].args[1]] == [metric.name for metric in METRICS]


def test_the_conditions_of_a_cell(tmp_path: Path) -> None:
    cell = summarise(builders.tiny(tmp_path)).cells[0]

    assert (cell.concurrency_reached, cell.worker_processes) == (2, 2)
    assert cell.conditions["concurrency_reached"].raw == [2]
    assert (cell.tasks, cell.calls_per_task, cell.repeats) == (2, 3, 1)
    assert (cell.tasks_succeeded, cell.tasks_wrong) == (2, 0)


def test_a_task_that_ends_as_another_starts_is_not_beside_it(tmp_path: Path) -> None:
    builders.tiny(tmp_path)
    builders.rewrite(tmp_path / records.TASKS_FILE, [
        builders.task(0, 1001, 1002, 1006, row=builders.row(11)),
        builders.task(1, 1001, 1006, 1011, row=builders.row(12))])

    assert summarise(tmp_path).cells[0].concurrency_reached == 1


def test_counts_stay_whole_numbers(tmp_path: Path) -> None:
    opened = of(summarise(builders.tiny(tmp_path, repeats=3)), "connections_opened")

    assert opened.raw == [4, 4, 4]
    assert all(isinstance(value, int) for value in [*opened.raw, opened.median])


# Samples

def test_a_mean_is_weighted_by_time_and_not_by_samples(tmp_path: Path) -> None:
    builders.tiny(tmp_path)
    crowded = [builders.sample(1002 + n / 100, [11]) for n in range(100)]
    builders.rewrite(tmp_path / records.SAMPLES_FILE, [
        builders.sample(1001, []), *crowded, *(builders.sample(t, []) for t in (1003, 1007, 1011, 1014))])

    assert of(summarise(tmp_path), "connections_mean").median == pytest.approx(0.1)


def test_a_hole_in_the_samples_leaves_no_gauge_but_the_counts(tmp_path: Path) -> None:
    builders.tiny(tmp_path)
    builders.rewrite(tmp_path / records.SAMPLES_FILE,
                     [one for one in builders.tiny_samples() if not 1002 < one.t < 1009])
    summary = summarise(tmp_path)

    for name in ("connections_mean", "connections_peak", "idle_connection_seconds", "connections_left_5s"):
        assert of(summary, name).median is None
        assert of(summary, name).reason == "no sample for 7.0 s of the window"
    assert of(summary, "connections_opened").median == 4
    assert of(summary, "makespan_seconds").median == 10


def test_samples_that_end_before_the_tasks_do_are_a_hole(tmp_path: Path) -> None:
    builders.tiny(tmp_path)
    builders.rewrite(tmp_path / records.SAMPLES_FILE, [one for one in builders.tiny_samples() if one.t < 1005])

    assert of(summarise(tmp_path), "connections_idle").reason == "no sample for 7.0 s of the window"


def test_no_samples_at_all(tmp_path: Path) -> None:
    builders.tiny(tmp_path)
    (tmp_path / records.SAMPLES_FILE).unlink()
    summary = summarise(tmp_path)

    assert of(summary, "connections_peak").raw == [None]
    assert of(summary, "connections_closed").reason == "the sampler took no sample"
    assert of(summary, "connections_opened").raw == [4]


def test_running_and_idle_add_up_to_open_where_a_transaction_has_no_listed_connection(tmp_path: Path) -> None:
    builders.tiny(tmp_path)
    builders.rewrite(tmp_path / records.SAMPLES_FILE,
                     [builders.sample(t, [11, 12], [12, 99]) for t in range(1000, 1015)])
    summary = summarise(tmp_path)

    assert [of(summary, name).median for name in ("connections_mean", "connections_idle", "connections_running")
            ] == [2, 1, 1]


# What is left

def left(folder: Path, name: str) -> tuple[float | None, str | None]:
    metric = of(summarise(folder), name)
    return metric.median, metric.reason


def with_connection(folder: Path, agent: str | None, last_seen: int, until: int) -> Path:
    """Write the tiny run with nothing but connection 11, of this agent, seen until then; sampled ``until``."""
    builders.tiny(folder)
    builders.rewrite(folder / records.SAMPLES_FILE,
                     [builders.sample(t, [11] if 1003 <= t <= last_seen else []) for t in range(1000, until + 1)])
    builders.rewrite(folder / records.CONNECTIONS_FILE, [builders.connection(11, 1003, last_seen, agent)])
    return folder


@pytest.mark.parametrize(("last_seen", "expected"), [(1010, 0), (1011, 1), (1035, 1)])
def test_what_is_left_is_counted_from_the_end_of_the_owning_task(tmp_path: Path, last_seen: int,
                                                                expected: int) -> None:
    folder = with_connection(tmp_path, builders.agent(11), last_seen, last_seen + 1)   # task 0 ended at 1006

    assert left(folder, "connections_left_5s") == (expected, None)


@pytest.mark.parametrize("agent", [None, "neo4j-python/6.4.1", builders.agent(4711), builders.agent(11, host="other")])
def test_a_connection_without_a_known_owner_is_the_last_tasks(tmp_path: Path, agent: str | None) -> None:
    folder = with_connection(tmp_path / "a", agent, 1015, 1016)    # task 1 ended last, at 1011
    later = with_connection(tmp_path / "b", agent, 1016, 1017)

    assert left(folder, "connections_left_5s") == (0, None)
    assert left(later, "connections_left_5s") == (1, None)


def test_a_connection_that_is_there_in_the_last_sample_is_left_after_30_s(tmp_path: Path) -> None:
    folder = with_connection(tmp_path, None, 1041, 1041)

    assert left(folder, "connections_left_30s") == (1, None)
    assert of(summarise(folder), "connections_closed").median == 3


def test_an_observation_that_ended_too_early_cannot_say_what_is_left(tmp_path: Path) -> None:
    folder = with_connection(tmp_path, None, 1020, 1020)

    assert left(folder, "connections_left_5s") == (1, None)
    assert left(folder, "connections_left_30s") == (None, "observed for 9.0 s after the owning task, 30 s are needed")


# The count at the server

def test_a_lower_bound_says_so_and_has_no_interval(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path, repeats=3, opened=3, opened_exact=False, opened_reason="other users")
    opened = of(summarise(folder), "connections_opened")

    assert opened.lower_bound
    assert opened.median == 3
    assert opened.ci95 is None
    assert opened.ci95_reason == "only a lower bound is known"
    assert not of(summarise(folder), "connections_peak").lower_bound


def test_a_count_that_is_missing_is_null_with_its_reason(tmp_path: Path) -> None:
    summary = summarise(builders.tiny(tmp_path, opened=None, last_id=None, opened_reason="the server restarted"))

    assert of(summary, "connections_opened").raw == [None]
    assert of(summary, "connections_opened").reason == "the server restarted"
    assert of(summary, "connections_closed").reason == "the server restarted"
    assert of(summary, "connections_peak").median == 3


def test_connections_from_before_the_window_are_open_but_not_opened(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path, opened=0, last_id=11)     # a warm relay: 7 stays open throughout
    builders.rewrite(folder / records.SAMPLES_FILE, [builders.sample(t, [7]) for t in range(1000, 1042)])
    builders.rewrite(folder / records.CONNECTIONS_FILE, [builders.connection(7, 1000, 1041)])
    summary = summarise(folder)

    assert [of(summary, name).median for name in ("connections_opened", "connections_closed", "connections_peak",
                                                  "connections_left_30s")] == [0, 0, 1, 1]


def test_what_stays_idle_counts_for_five_seconds_after_the_last_task_however_long_it_is_looked_at(
        tmp_path: Path) -> None:
    seconds = []
    for until in (1017, 1042):
        folder = builders.tiny(tmp_path / str(until), opened=0, last_id=11)
        builders.rewrite(folder / records.SAMPLES_FILE, [builders.sample(t, [7]) for t in range(1000, until)])
        builders.rewrite(folder / records.CONNECTIONS_FILE, [builders.connection(7, 1000, until - 1)])
        seconds.append(of(summarise(folder), "idle_connection_seconds").median)
    assert seconds == [15, 15]      # queued at 1001, ended at 1011


def test_the_processor_time_of_a_tap_is_the_probes_and_in_no_sum(tmp_path: Path) -> None:
    spent = {**(builders.MACHINE.cpu_seconds or {}), records.TAP: 4}
    summary = summarise(builders.tiny(tmp_path, machine=builders.MACHINE.model_copy(update={"cpu_seconds": spent})))

    assert (of(summary, "cpu_probe").median, of(summary, "cpu_per_task").median) == (7, 10.5)


def test_what_a_tap_counted_is_exact_beside_others_and_what_is_gone_a_lower_bound(tmp_path: Path) -> None:
    summary = summarise(builders.tiny(tmp_path, opened=9, counted_by="tap"))

    opened, closed = of(summary, "connections_opened"), of(summary, "connections_closed")
    assert (opened.median, opened.lower_bound) == (9, False)
    assert (closed.median, closed.lower_bound) == (3, True), "samples saw three come and go"
    assert (summary.dag_runs[0].counted_by, summary.dag_runs[0].doubts) == ("tap", [])


def test_where_tap_and_ids_agree_all_is_exact(tmp_path: Path) -> None:
    summary = summarise(builders.tiny(tmp_path, counted_by="tap", ids_opened=4))

    opened, closed = of(summary, "connections_opened"), of(summary, "connections_closed")
    assert (opened.median, opened.lower_bound) == (4, False)
    assert (closed.median, closed.lower_bound) == (4, False)
    assert summary.dag_runs[0].doubts == []


def test_where_tap_and_ids_differ_it_is_said(tmp_path: Path) -> None:
    summary = summarise(builders.tiny(tmp_path, counted_by="tap", ids_opened=6))

    assert of(summary, "connections_opened").median == 4
    assert of(summary, "connections_closed").lower_bound
    (doubt,) = summary.dag_runs[0].doubts
    assert doubt.startswith("the tap counted 4 connections, and by the server's ids it accepted 6")
    assert summary.failures == summary.dag_runs


def test_more_drivers_than_the_tap_counted_is_a_doubt_about_the_tap(tmp_path: Path) -> None:
    summary = summarise(builders.tiny(tmp_path, opened=3, counted_by="tap"))

    assert summary.dag_runs[0].doubts == ["the tasks report 4 drivers, the tap counted 3 connections"]


def test_more_drivers_than_connections_is_a_doubt(tmp_path: Path) -> None:
    summary = summarise(builders.tiny(tmp_path, opened=3, last_id=14))

    assert summary.dag_runs[0].doubts == ["the tasks report 4 drivers, the server counted 3 connections"]
    assert summary.failures == summary.dag_runs


# Tasks

def change_task(folder: Path, **changes: Any) -> Path:
    first, second = builders.tiny_tasks()
    changed = TaskRecord.model_validate({**first.model_dump(), **changes})
    builders.rewrite(folder / records.TASKS_FILE, [changed, second])
    return folder


def test_a_task_without_a_row_leaves_no_figure_of_the_tasks(tmp_path: Path) -> None:
    summary = summarise(change_task(builders.tiny(tmp_path), row=None, reason="no XCom"))

    for name in ("first_result_seconds", "call_seconds_p90", "drivers_created"):
        assert of(summary, name).reason == "1 of 2 tasks returned no row"
    assert of(summary, "connections_opened").median == 4
    assert summary.cells[0].worker_processes is None


@pytest.mark.parametrize(("time", "reason"), [("queued_at", "1 of 2 tasks have no queued time"),
                                              ("ended_at", "1 of 2 tasks have no end")])
def test_a_task_without_a_time_leaves_no_window(tmp_path: Path, time: str, reason: str) -> None:
    summary = summarise(change_task(builders.tiny(tmp_path), **{time: None}))

    assert of(summary, "makespan_seconds").reason == reason
    assert of(summary, "connections_idle").median is None


def test_tasks_that_were_not_recorded_are_not_left_out_silently(tmp_path: Path) -> None:
    builders.tiny(tmp_path)
    builders.rewrite(tmp_path / records.TASKS_FILE, builders.tiny_tasks()[:1])

    assert of(summarise(tmp_path), "task_seconds").reason == "1 of 2 tasks were recorded"


def test_one_call_has_no_later_call(tmp_path: Path) -> None:
    builders.write(tmp_path, builders.run(builders.plan(builders.cell(calls=1))), dag_runs=[builders.dag_run()],
                   tasks=[builders.task(n, 1001, 1002, 1006, row=builders.row(n, call_seconds=[])) for n in (1, 2)])

    assert of(summarise(tmp_path), "call_seconds").reason == "no later call: 1 per task"


def test_wrong_answers_are_counted_by_task(tmp_path: Path) -> None:
    summary = summarise(change_task(builders.tiny(tmp_path), row=builders.row(11, wrong=3)))

    assert summary.cells[0].tasks_wrong == 1
    assert of(summary, "tasks_wrong").raw == [1]
    assert summary.failures == summary.dag_runs


# DAG runs that failed, and those that never were

@pytest.mark.parametrize("state", ["failed", "hung", "error", "interrupted"])
def test_a_repeat_that_did_not_succeed_is_no_measurement(tmp_path: Path, state: str) -> None:
    folder = builders.tiny(tmp_path, repeats=3)
    builders.rewrite(folder / records.DAG_RUNS_FILE, [
        builders.dag_run(0, opened=4), builders.dag_run(1, opened=9, state=state, reason="why it is"),
        builders.dag_run(2, opened=6)])
    summary = summarise(folder)
    opened = of(summary, "connections_opened")

    assert opened.raw == [4, None, 6]
    assert opened.median == 5
    assert opened.reason == f"repeat 2: {state}: why it is"
    assert opened.ci95 is None
    assert opened.ci95_reason == "2 of 6 repeats needed"
    assert of(summary, "tasks_wrong").raw == [0, 0, 0]
    assert summary.cells[0].repeats_measured == 2
    assert summary.cells[0].tasks_succeeded == 6
    assert [(run.index, run.state, run.reason) for run in summary.failures] == [(1, state, "why it is")]
    assert summary.dag_runs[1].figures["connections_opened"] == 9


@pytest.mark.parametrize(("step", "said"), [
    (31.25, "the clock was set by +31.2 s"), (-3600.0, "the clock was set by -3600.0 s"), (0.4, None), (None, None)])
def test_where_the_clock_was_set_only_what_does_not_depend_on_it_is_there(
        tmp_path: Path, step: float | None, said: str | None) -> None:
    summary = summarise(builders.tiny(tmp_path, clock_step=step))

    assert of(summary, "connections_opened").median == 4
    assert of(summary, "first_result_seconds").median is not None
    assert summary.cells[0].conditions["cpu_steal"].median == 0.01
    assert (summary.dag_runs[0].sampler.interval_longest is None) is bool(said)
    for name in ("makespan_seconds", "idle_connection_seconds", "connections_left_5s", "scheduled_seconds",
                 "connections_peak", "connections_idle_peak", "connections_closed"):
        found = of(summary, name)
        assert (found.median is None) is bool(said)
        assert said is None or said in (found.reason or "")


def test_a_hang_counts_the_tasks_that_did_end(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path, state="hung", reason="no task ended for 300 s", opened=None, last_id=None)
    change_task(folder, state="running", ended_at=None, row=None, reason="still running")
    summary = summarise(folder)

    assert summary.cells[0].tasks_succeeded == 1
    assert summary.dag_runs[0].task_failures == {"running: still running": 1}
    assert of(summary, "makespan_seconds").reason == "hung: no task ended for 300 s"


def test_a_plan_of_which_nothing_was_run(tmp_path: Path) -> None:
    summary = summarise(builders.write(tmp_path, builders.run(
        builders.plan(builders.cell()), status="interrupted", reason="Ctrl-C")))

    assert of(summary, "connections_opened").raw == [None]
    assert of(summary, "connections_opened").reason == "not run: the run is interrupted (Ctrl-C)"
    assert summary.dag_runs[0].state == "not run"
    assert summary.cells[0].tasks_succeeded == 0


def test_an_empty_plan(tmp_path: Path) -> None:
    summary = summarise(builders.write(tmp_path, builders.run([])))

    assert (summary.cells, summary.contrasts, summary.dag_runs, summary.seed_claim.executors) == ([], [], [], [])


def test_a_killed_rig_leaves_what_it_had(tmp_path: Path) -> None:
    folder = with_run(builders.tiny(tmp_path, repeats=2), status="running", ended_at=None)
    builders.rewrite(folder / records.DAG_RUNS_FILE, [builders.dag_run(0)])
    with (folder / records.SAMPLES_FILE).open("a") as file:
        file.write('{"index":1,"t":10')
    summary = summarise(folder)

    assert summary.status == "running"
    assert of(summary, "connections_peak").raw == [3, None]
    assert of(summary, "connections_peak").reason == "repeat 2: the rig ended before this DAG run did"


def test_a_damaged_file_is_not_read_over(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path)
    with (folder / records.SAMPLES_FILE).open("a") as file:
        file.write('{"index":1,"t":10\n')

    with pytest.raises(BadInput, match=r"samples\.jsonl, line 16"):
        summarise(folder)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no run"):
        summarise(tmp_path)


# Intervals: tests/rig/test_intervals.py has what they are worth

def test_an_interval_needs_six_repeats_and_two_have_a_range(tmp_path: Path) -> None:
    for repeats in (1, 2, 5, 6):
        opened = of(summarise(builders.tiny(tmp_path / str(repeats), repeats=repeats)), "connections_opened")
        assert opened.range == (None if repeats == 1 else (4, 4))
        assert opened.ci95 == (None if repeats < 6 else (4, 4))
        assert opened.ci95_reason == (f"{repeats} of 6 repeats needed" if repeats < 6 else None)


def test_a_summary_is_the_same_each_time_it_is_made(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path, repeats=5)
    builders.rewrite(folder / records.DAG_RUNS_FILE,
                     [builders.dag_run(index, opened=opened) for index, opened in enumerate((4, 17, 31, 8, 90))])

    assert summarise(folder) == summarise(folder)
    assert of(summarise(folder), "connections_opened").median == 17


# Contrasts

def with_cells(folder: Path, opened: dict[tuple[str, str, str], list[int | None]], **run: Any) -> Path:
    """Write a run of these cells (executor, pattern, relay), with what each repeat opened."""
    cells = [(builders.cell(pattern, executor, relay), counts)            # type: ignore[arg-type]
             for (executor, pattern, relay), counts in opened.items()]
    planned = builders.plan(*[cell for cell, counts in cells for _ in counts])
    counts = [count for _, counts in cells for count in counts]
    return builders.write(folder, builders.run(planned, **run), dag_runs=[
        builders.dag_run(index, opened=count, opened_reason=None if count is not None else "lost")
        for index, count in enumerate(counts)])


def contrast(summary: Summary, metric: str = "connections_opened") -> dict[tuple[str, str], Contrast]:
    def name(side: Any) -> str:
        return f"{side.executor.removesuffix('Executor')} {side.pattern} {side.relay}"
    return {(name(c.baseline), name(c.contender)): c for c in summary.contrasts if c.metric == metric}


LOCAL, CELERY = "LocalExecutor", "CeleryExecutor"


def test_each_pattern_against_problematic_and_celery_against_local(tmp_path: Path) -> None:
    found = contrast(summarise(with_cells(tmp_path, {
        (CELERY, "worker", "process"): [16] * 3, (CELERY, "improved", "none"): [100] * 3,
        (CELERY, "problematic", "none"): [300, 310, 290], (LOCAL, "improved", "none"): [100] * 3,
        (LOCAL, "problematic", "none"): [300] * 3})))

    assert list(found) == [
        ("Local problematic none", "Local improved none"),
        ("Celery problematic none", "Celery improved none"),
        ("Celery problematic none", "Celery worker process"),
        ("Local problematic none", "Celery problematic none"),
        ("Local improved none", "Celery improved none")]
    one = found["Celery problematic none", "Celery improved none"]
    assert (one.baseline_median, one.contender_median, one.difference) == (300, 100, -200)
    assert (one.ratio, one.range, one.blocks) == (0.3335, (0.3226, 0.3448), 3)
    assert (one.ci95, one.ci95_reason) == (None, "3 of 6 complete blocks needed")
    assert (one.verdict, one.verdict_reason) == (None, "3 of 6 complete blocks needed")


def test_a_contrast_is_made_block_by_block(tmp_path: Path) -> None:
    before: list[int | None] = [100, 200, 400, 100, 200, 400]
    after: list[int | None] = [50, 101, 199, 50, 100, 201]
    one = contrast(summarise(with_cells(tmp_path, {(LOCAL, "problematic", "none"): before,
                                                  (LOCAL, "improved", "none"): after})))
    found = one["Local problematic none", "Local improved none"]

    assert found.ci95 is not None
    assert 0.48 < found.ci95[0] < 0.5 < found.ci95[1] < 0.52     # a factor of four between the blocks is no noise
    assert (found.verdict, found.blocks, found.family) == ("lower", 6, "primary")


def test_only_blocks_in_which_both_were_measured_are_compared(tmp_path: Path) -> None:
    one = contrast(summarise(with_cells(tmp_path, {(LOCAL, "problematic", "none"): [100, None, 100],
                                                  (LOCAL, "improved", "none"): [50, 1, None]})))
    found = one["Local problematic none", "Local improved none"]

    assert (found.blocks, found.ratio, found.range) == (1, 0.5, None)


def test_where_the_baseline_is_0_the_differences_say_what_there_is_to_say(tmp_path: Path) -> None:
    one = contrast(summarise(with_cells(tmp_path, {(LOCAL, "problematic", "none"): [0] * 6,
                                                  (LOCAL, "improved", "none"): [16] * 6})))
    found = one["Local problematic none", "Local improved none"]

    assert (found.ratio, found.ci95, found.reason) == (None, None, "the baseline is 0")
    assert (found.verdict, found.difference) == ("higher", 16)


def two_by_two(folder: Path, repeats: int = 6) -> Summary:
    """Return the summary of cold and warm cells of two patterns, with a control cell of the first."""
    cells = [builders.cell(pattern, warm=warm) for pattern in ("problematic", "improved") for warm in (False, True)]
    cells.append(builders.cell("problematic", control=True))
    planned = builders.plan(*(cells * repeats))
    counts = {cell: 100 * (number + 1) for number, cell in enumerate(cells)}
    wobble = [1, 1.1, 1, 0.9, 1, 1]
    return summarise(builders.write(folder, builders.run(planned), dag_runs=[
        builders.dag_run(run.index, opened=round(counts[run.cell] * (wobble[run.block] if run.cell.control else 1)))
        for run in planned]))


def test_cold_is_compared_with_cold_and_warm_with_warm(tmp_path: Path) -> None:
    found = [c for c in two_by_two(tmp_path).contrasts if c.metric == "connections_opened" and c.between == "patterns"]

    assert [(c.baseline.warm, c.contender.warm, c.contender.pattern) for c in found] == [
        (False, False, "improved"), (True, True, "improved")]
    assert [c.ratio for c in found] == [3, 2]


def preloaded_or_not(folder: Path, repeats: int = 6) -> Summary:
    """Return the summary of two patterns on both executors, preloaded and not, with a control cell of either kind."""
    cells = [builders.cell(pattern, executor, preload=preload) for executor in EXECUTORS
             for pattern in ("problematic", "improved") for preload in (False, True)]
    cells += [builders.cell(preload=preload, control=True) for preload in (False, True)]
    planned = builders.plan(*(cells * repeats))
    return summarise(builders.write(folder, builders.run(planned), dag_runs=[
        builders.dag_run(run.index) for run in planned]))


def test_what_preloading_saves_is_credited_to_preloading_alone(tmp_path: Path) -> None:
    found = preloaded_or_not(tmp_path).contrasts
    alike = [c for c in found if c.between != "preload"]
    preload = [c for c in found if c.between == "preload"]

    assert {c.between for c in alike} == {"patterns", "executors", "control"}
    assert all(c.baseline.preload == c.contender.preload for c in alike)
    assert {c.metric for c in preload} == {"start_seconds", "makespan_seconds", "cpu_per_task", "cpu_tasks"}
    assert all((c.baseline.preload, c.contender.preload) == (False, True) for c in preload)
    assert all(c.baseline == c.contender.model_copy(update={"preload": False}) for c in preload)
    assert len(preload) == 4 * 4


def test_the_contrasts_of_preloading_are_a_family_of_their_own(tmp_path: Path) -> None:
    found = preloaded_or_not(tmp_path).contrasts
    assert {(c.family, c.family_size) for c in found if c.between == "preload"} == {("preload", 16)}
    primary = [c for c in found if c.family == "primary"]
    assert {c.family_size for c in primary} == {8}      # four metrics of improved, on either executor
    assert not any(c.contender.preload for c in primary)


def test_the_noise_floor_of_preloading_is_that_of_both_sides(tmp_path: Path) -> None:
    found = [c for c in preloaded_or_not(tmp_path).contrasts if c.between == "preload" and c.metric == "cpu_tasks"]
    assert {c.baseline.executor: c.noise_floor for c in found} == {LOCAL: 0, CELERY: None}


def test_a_preloaded_cell_is_none_of_the_seeds(tmp_path: Path) -> None:
    summary = summarise(builders.write(tmp_path, builders.run(builders.plan(
        builders.cell("problematic", preload=True), builders.cell("improved")))))
    (claim,) = summary.seed_claim.executors
    assert claim.reason == "problematic is not part of this run"


def test_a_cell_against_itself_gives_the_noise_floor_of_every_other_contrast(tmp_path: Path) -> None:
    found = [c for c in two_by_two(tmp_path).contrasts if c.metric == "connections_opened"]
    control = [c for c in found if c.between == "control"]

    assert [(c.baseline.pattern, c.baseline.control, c.contender.control) for c in control] == [
        ("problematic", False, True)]
    assert control[0].range == (4.5, 5.5)
    assert {c.noise_floor for c in found} == {4.5}      # the cell five times as big in the middle, 5.5 at most


def test_the_families_follow_from_the_plan_alone(tmp_path: Path) -> None:
    measured, lost = two_by_two(tmp_path / "1").contrasts, two_by_two(tmp_path / "2", repeats=1).contrasts

    def sizes(of: list[Contrast]) -> set[tuple[str, int]]:
        return {(c.family, c.family_size) for c in of}
    assert sizes(measured) == sizes(lost)
    assert dict(sizes(measured))["primary"] == 8        # four metrics of two pairs
    assert {round(c.level, 4) for c in measured if c.family == "primary"} == {round(1 - 0.05 / 8, 4)}


@pytest.mark.parametrize(("baseline", "contender", "reason"), [
    ([0, 0, 0], [5, 5, 5], "the baseline is 0"),
    ([None], [5], "the baseline was not measured"),
    ([5], [None], "the contender was not measured")])
def test_there_is_no_ratio_without_both_sides(tmp_path: Path, baseline: list[int | None],
                                             contender: list[int | None], reason: str) -> None:
    found = contrast(summarise(with_cells(tmp_path, {(LOCAL, "problematic", "none"): baseline,
                                                     (LOCAL, "improved", "none"): contender})))
    one = found["Local problematic none", "Local improved none"]

    assert (one.ratio, one.ci95, one.reason) == (None, None, reason)


def test_a_ratio_of_few_repeats_has_no_interval(tmp_path: Path) -> None:
    found = contrast(summarise(with_cells(tmp_path, {(LOCAL, "problematic", "none"): [30, 30, 30],
                                                     (LOCAL, "improved", "none"): [15, None, 15]})))
    one = found["Local problematic none", "Local improved none"]

    assert (one.ratio, one.ci95, one.ci95_reason) == (0.5, None, "2 of 6 complete blocks needed")


def test_cells_that_do_other_work_are_not_contrasted(tmp_path: Path) -> None:
    planned = builders.plan(builders.cell("problematic", calls=3), builders.cell("improved", calls=1))

    assert summarise(builders.write(tmp_path, builders.run(planned))).contrasts == []


def test_latencies_are_not_contrasted_between_patterns(tmp_path: Path) -> None:
    summary = summarise(with_cells(tmp_path, {(executor, pattern, "none"): [3] for executor in (LOCAL, CELERY)
                                              for pattern in ("problematic", "improved")}))

    assert {c.between for c in summary.contrasts if c.metric == "first_result_seconds"} == {"executors"}
    assert {c.between for c in summary.contrasts if c.metric == "makespan_seconds"} == {"patterns", "executors"}


# The seed's claim

def with_idle(folder: Path, peaks: dict[str, int], **run: Any) -> Path:
    """Write a run of LocalExecutor in which each pattern has so many idle connections throughout."""
    cells = [builders.cell(pattern, tasks=2) for pattern in peaks]
    return builders.write(
        folder, builders.run(builders.plan(*cells), **run),
        dag_runs=[builders.dag_run(index) for index in range(len(cells))],
        samples=[builders.sample(t, range(100, 100 + peak), index=index)
                 for index, peak in enumerate(peaks.values()) for t in range(1000, 1015)],
        tasks=[one for index in range(len(cells)) for one in builders.tiny_tasks(index)])


def of_the_seed(folder: Path, peaks: dict[str, int], **run: Any) -> Path:
    """Write a run under all of the seed's conditions, in which each pattern has so many idle connections."""
    cells = [builders.cell(pattern, tasks=100, calls=1) for pattern in peaks]
    environment = {"versions": {"airflow": "2.8.1", "neo4j server": "5.27-aura enterprise"}}
    return builders.write(
        folder, builders.run(builders.plan(*cells), **{"slots": 32, "environment": environment} | run),
        dag_runs=[builders.dag_run(index) for index in range(len(cells))],
        samples=[builders.sample(t, range(100, 100 + peak), index=index)
                 for index, peak in enumerate(peaks.values()) for t in range(1000, 1015)],
        tasks=[builders.task(n, 1001, 1002, 1011, index=index, row=builders.row(n, driver_version="5.28.0"))
               for index in range(len(cells)) for n in range(100)])


@pytest.mark.parametrize(("problematic", "improved", "reduction", "reproduced"), [
    (36, 9, 0.75, True), (35, 8, 0.7714, True), (36, 10, 0.7222, False), (16, 16, 0, False), (8, 10, -0.25, False)])
def test_the_seeds_claim_can_be_reproduced_or_not(tmp_path: Path, problematic: int, improved: int,
                                                 reduction: float, reproduced: bool) -> None:
    claim = summarise(of_the_seed(tmp_path, {"problematic": problematic, "improved": improved})).seed_claim
    [local] = claim.executors

    assert claim.same_conditions
    assert (local.peak.problematic, local.peak.improved, local.peak.reduction) == (problematic, improved, reduction)
    assert local.mean.reduction == reduction
    assert (local.reproduced, local.reason) == (reproduced, None)


def test_there_is_no_verdict_on_the_claim_under_other_conditions(tmp_path: Path) -> None:
    newer = {"versions": {"airflow": "3.3.2", "neo4j server": "2026.08.1 community"}}
    folder = of_the_seed(tmp_path, {"problematic": 36, "improved": 9}, environment=newer, slots=16)
    [local] = summarise(folder).seed_claim.executors

    assert (local.peak.reduction, local.reproduced) == (0.75, None)
    assert local.reason == ("not the seed's conditions: slots 16 instead of 32, Airflow 3.3.2 instead of 2.8.1, "
                            "server Neo4j 2026.08.1 community instead of Neo4j Aura")


@pytest.mark.parametrize(("peaks", "reason"), [
    ({"problematic": 35}, "improved is not part of this run"),
    ({"problematic": 0, "improved": 3}, "problematic had no idle connection")])
def test_the_seeds_claim_is_left_open_without_its_figures(tmp_path: Path, peaks: dict[str, int], reason: str) -> None:
    [local] = summarise(with_idle(tmp_path, peaks)).seed_claim.executors

    assert (local.reproduced, local.reason) == (None, reason)


def test_the_seeds_conditions_are_compared_with_the_runs(tmp_path: Path) -> None:
    seed = summarise(of_the_seed(tmp_path / "seed", {"problematic": 1, "improved": 1})).seed_claim
    quick = summarise(with_idle(tmp_path / "quick", {"problematic": 1, "improved": 1})).seed_claim

    assert seed.same_conditions
    assert not quick.same_conditions
    assert [(c.name, c.run, c.same) for c in quick.conditions] == [
        ("tasks", "2", False), ("calls per task", "3", False), ("hold of a task, s", "2", True), ("slots", "16", False),
        ("Neo4j driver", "6.4.1", False), ("Airflow", "unknown", False), ("server", "unknown", False)]


# The timeline

def only_timeline(folder: Path) -> Timeline:
    found = timeline(metrics.load(folder).repeats[0])
    assert found is not None
    return found


def test_the_timeline_counts_up_by_ids_and_ends_with_the_servers_count(tmp_path: Path) -> None:
    found = only_timeline(builders.tiny(tmp_path))

    assert found.idle == [(0, 0), (4, 2), (6, 3), (7, 2), (13, 1), (14, 0)]
    assert found.opened == [(0, 0), (3, 1), (4, 2), (5, 3), (14, 4)]       # 14 was never sampled
    assert found.closed == [(0, 0), (7, 1), (13, 2), (14, 4)]


def test_ids_that_no_sample_saw_are_counted_once_a_later_one_is_seen(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path, opened=9, last_id=20)
    builders.rewrite(folder / records.SAMPLES_FILE, [builders.sample(1000, []), builders.sample(1004, [17])])

    assert only_timeline(folder).opened == [(0, 0), (4, 9)]
    assert only_timeline(folder).closed == [(0, 0), (4, 8)]


def test_with_other_users_the_timeline_counts_what_was_seen(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path, opened=2, opened_exact=False, first_id=None, last_id=None)
    builders.rewrite(folder / records.SAMPLES_FILE, [
        builders.sample(1000, []), builders.sample(1004, [500]), builders.sample(1005, [500, 900]),
        builders.sample(1006, [900])])

    assert only_timeline(folder).opened == [(0, 0), (4, 1), (5, 2), (6, 2)]
    assert only_timeline(folder).closed == [(0, 0), (6, 1)]


def test_neither_count_ever_falls(tmp_path: Path) -> None:
    random = Random(3)
    folder = builders.tiny(tmp_path, opened=40, last_id=51)
    builders.rewrite(folder / records.SAMPLES_FILE, [
        builders.sample(1000 + t, sorted(random.sample(range(11 + t, 20 + t), 4))) for t in range(30)])
    found = only_timeline(folder)

    for points in (found.opened, found.closed):
        assert all(earlier.value <= later.value for earlier, later in pairwise(points))


def test_there_is_no_timeline_without_samples(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path)
    (folder / records.SAMPLES_FILE).unlink()

    assert timeline(metrics.load(folder).repeats[0]) is None


# Secrets

@pytest.mark.parametrize("said", [
    "could not reach bolt://neo4j:s3cret@db:7687", "NEO4J_PASSWORD=s3cret rig compare", "rig --password s3cret",
    "rig --password=s3cret", '{"password": "s3cret"}', "token: s3cret", "auth_token='s3cret'"])
def test_a_text_loses_its_secrets(said: str) -> None:
    assert "s3cret" not in text(said)
    assert "***" in text(said)


def test_an_environment_loses_its_secrets() -> None:
    kept = {"versions": {"neo4j": "2026.08.1"}, "password": None, "uri": "bolt://db:7687"}

    assert redacted({**kept, "NEO4J_PASSWORD": "s3cret", "deep": [{"api_key": "s3cret"}]}) == {
        **kept, "NEO4J_PASSWORD": "***", "deep": [{"api_key": "***"}]}


def test_names_are_unique() -> None:
    every = metrics.METRICS + metrics.CONDITIONS
    assert len(metrics.BY_NAME) == len(every)
