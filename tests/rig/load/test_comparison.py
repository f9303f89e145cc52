"""The comparison of loads: its order, what is left of it, and its page."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from patterns.facts import STRESS_DAG
from rig import records, report, runs
from rig.errors import BadInput
from rig.load import comparison as comparing
from rig.load import request as asking
from rig.load import run as loading
from rig.load.records import (
    CellTestRecord,
    Deployment,
    Load,
    LoadComparison,
    LoadRun,
    LoadTestRecord,
    Phase,
    Thresholds,
    read_comparison,
)
from rig.load.request import Request
from rig.load.run import Wish
from rig.load.summary import summarise
from rig.records import COMPARISON_FILE, LOAD_FILE, LOAD_RUNS_FILE, SERIES_FILE, TESTS_FILE
from rig.report.phrases import NOTHING
from tests.rig.load import folders
from tests.rig.load.folders import done
from tests.rig.load.lines import load, run, sample
from tests.rig.plain_settings import PlainSettings
from tests.rig.pretended_stack import PretendedStack
from tests.rig.test_drivers import stack as state_of

REQUEST = Request(executors=("LocalExecutor", "CeleryExecutor"), patterns=("improved", "worker"), tasks=10, calls=3,
                  hold=0.2, step=0.1, steps=4, step_seconds=45, held_seconds=180, seed=1, command="rig compare-load")


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        pass


def comparison(**changes: Any) -> LoadComparison:
    return folders.record(**{"cells": comparing.planned(REQUEST), **changes})


def test_the_cells_are_all_there_in_an_order_of_the_seed_with_the_relay_that_they_need() -> None:
    cells = comparing.planned(REQUEST)
    assert cells == comparing.planned(REQUEST)
    assert {(cell.executor, cell.pattern, cell.relay) for cell in cells} == {
        ("LocalExecutor", "improved", "none"), ("LocalExecutor", "worker", "shared"),
        ("CeleryExecutor", "improved", "none"), ("CeleryExecutor", "worker", "process")}


def all_of(record: LoadComparison, outcome: Callable[[comparing.Next], CellTestRecord]) -> list[comparing.Next]:
    """Run a comparison whose tests all end as ``outcome`` says; return them in their order."""
    tests: list[CellTestRecord] = []
    order = []
    while left := next(comparing._left(record, tests), None):
        order.append(left)
        tests.append(outcome(left))
    return order


def test_every_cell_is_searched_once_in_each_block_and_what_holds_is_held_after_the_last() -> None:
    order = all_of(comparison(repeats=3), lambda left: done(left.cell, left.phase))
    assert [left.phase for left in order] == ["knee"] * 12 + ["held"] * 4
    blocks = [[left.cell for left in order if left.block == block] for block in range(4)]
    assert blocks[0] == blocks[3] == [0, 1, 2, 3]
    assert all(sorted(block) == [0, 1, 2, 3] for block in blocks)
    assert len({tuple(block) for block in blocks}) > 1        # another order in another block


def test_a_closed_loop_stands_beside_each_search_and_80_percent_of_it_is_driven_for_long() -> None:
    record = comparison(repeats=2, saturated_seconds=90.0, cells=comparing.planned(REQUEST)[:1])
    order = all_of(record, lambda left: done(left.cell, left.phase, 0.2, 0.6 if left.phase == "saturated" else None))
    assert [(left.phase, left.block) for left in order] == [
        ("knee", 0), ("saturated", 0), ("knee", 1), ("saturated", 1), ("held", 2), ("below", 2)]


def test_what_is_driven_at_80_percent_is_the_median_of_the_closed_loops_that_could_be_counted() -> None:
    loops = [done(0, "saturated", None, reached) for reached in (0.5, None, 0.6, 1.0)]
    assert comparing._rate_below(loops, 0) == 0.48
    assert comparing._rate_below([*loops, done(0, "below")], 0) is None
    assert comparing._rate_below(loops[1:2], 0) is None
    assert comparing._rate_below([done(0, "saturated", None, 0.0001)], 0) is None     # too slow for Locust


def test_to_go_on_a_comparison_needs_no_test_again() -> None:
    record = comparison(repeats=2)
    tests = [done(cell, "knee") for cell in range(4)] + [done(0, "knee")]
    assert {left.cell for left in comparing._left(record, tests) if left.phase == "knee"} == {1, 2, 3}
    everything = [*tests, *(done(cell, "knee") for cell in (1, 2, 3)), *(done(cell, "held") for cell in range(4))]
    assert list(comparing._left(record, everything)) == []


def test_where_not_even_the_first_rate_held_there_is_nothing_to_hold() -> None:
    order = all_of(comparison(), lambda left: done(left.cell, left.phase, None if left.cell == 0 else 0.2))
    assert [left.cell for left in order if left.phase == "held"] == [1, 2, 3]


def test_what_is_held_for_long_is_the_median_of_the_searches() -> None:
    def first(*held: float | None) -> float | None:
        return comparing._next_held(comparison(), [done(0, "knee", one) for one in held], 0)

    assert first(0.3) == 0.3
    assert first(0.5, 0.3, 0.4) == 0.4
    assert first(0.3, 0.4) == 0.3
    assert first(None, 0.4, 0.4) == 0.4
    assert first(None, None, 0.4) is None


def test_a_rate_that_does_not_hold_for_long_is_followed_by_the_next_lower_one() -> None:
    tests = [done(0, "knee", 0.3)]
    assert comparing._next_held(comparison(), tests, 0) == 0.3
    tests.append(done(0, "held", None))
    assert comparing._next_held(comparison(), tests, 0) == 0.2
    assert comparing._next_held(comparison(), [*tests, done(0, "held", 0.2)], 0) is None
    tests += [done(0, "held", None), done(0, "held", None)]
    assert comparing._next_held(comparison(), tests, 0) is None        # 0.1 did not hold either


def wish_of(folder: Path, record: LoadComparison, test: comparing.Next, tests: Sequence[CellTestRecord]) -> Wish:
    records.append(folder / TESTS_FILE, tests)
    return comparing._Runner(PlainSettings(), PretendedStack(folder).seen_as, folder, record, Silent())._wish(test)


def options_of(wish: Wish) -> dict[str, str]:
    """Return what Locust is asked for; its side takes all of it."""
    loading._require_a_test(wish, dict(os.environ))
    return dict(argument.removeprefix("--").split("=") for argument in wish.arguments)


@pytest.mark.parametrize("phase", ["knee", "held", "below"])
@pytest.mark.parametrize(("arrivals", "seed", "given"), [("even", 1, 1), ("poisson", 7, 7), ("poisson", -1, 2**31 - 1)])
def test_its_load_tests_have_the_arrivals_that_were_asked_for(
        phase: Phase, arrivals: Any, seed: int, given: int, tmp_path: Path) -> None:
    tests = [done(0, "knee"), done(0, "saturated", None, 0.5)]
    found = options_of(wish_of(tmp_path, comparison(arrivals=arrivals, seed=seed), comparing.Next(0, phase, 0), tests))
    assert (found["arrivals"], found["seed"]) == (arrivals, str(given))


def test_the_first_search_begins_at_the_bottom_and_the_next_near_what_was_found(tmp_path: Path) -> None:
    record = comparison(steps=10, arrivals="poisson")
    first = options_of(wish_of(tmp_path, record, comparing.Next(0, "knee", 0), []))
    second = options_of(wish_of(tmp_path, record, comparing.Next(0, "knee", 1), [done(0, "knee", 0.5)]))
    assert (first["first-rate"], first["arrival-rate"], first["duration"]) == ("0.1", "0.1", "450.0")
    assert (second["first-rate"], second["arrival-rate"], second["duration"]) == ("0.3", "0.1", "360.0")
    assert (first["seed"], second["seed"]) == ("1", "2")        # moments of its own, the same in every cell


def test_a_closed_loop_has_as_many_users_as_dag_runs_that_airflow_runs_at_once(tmp_path: Path) -> None:
    record = comparison(saturated_seconds=90.0, arrivals="poisson")
    found = options_of(wish_of(tmp_path, record, comparing.Next(0, "saturated", 0), []))
    assert (found["load-model"], found["users"], found["duration"]) == ("closed", "16", "90.0")
    assert "arrivals" not in found


def test_each_cell_of_a_block_finds_its_executor_just_started(tmp_path: Path) -> None:
    running = PretendedStack(tmp_path, state_of(tmp_path, preload=True))
    runner = comparing._Runner(PlainSettings(), running.seen_as, tmp_path, comparison(repeats=2), Silent())
    for test in ((0, "knee", 0), (0, "saturated", 0), (0, "knee", 1), (1, "knee", 1)):
        assert not runner._prepare(comparing.Next(*test)).preload
    assert [call[0] for call in running.asked] == ["switch"] * 3


def test_a_comparison_from_before_there_was_a_choice_had_even_arrivals(folder: Path) -> None:
    path = folder / COMPARISON_FILE
    known = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({name: value for name, value in known.items() if name != "arrivals"}))
    assert "<dt>arrivals</dt><dd>even</dd>" in report.write(folder).read_text("utf-8")


@pytest.mark.parametrize(("took", "held"), [(4.0, 0.5), (400.0, None)])
def test_a_long_test_holds_its_rate_where_no_runs_pile_up(took: float, held: float | None, tmp_path: Path) -> None:
    write_test(tmp_path, "complete", load(seconds=60.0), [run(float(due), 4.0 if due < 10 else took)
                                                          for due in range(0, 60, 2)])
    assert comparing._held(summarise(tmp_path)) == held


@pytest.mark.parametrize(("status", "changes"), [
    ("interrupted", {}), ("complete", {"users": 2}), ("complete", {"shape": "spike"}), ("complete", {"seconds": 9.0})])
def test_what_is_no_constant_rate_for_long_enough_is_not_judged(
        status: str, changes: dict[str, Any], tmp_path: Path) -> None:
    write_test(tmp_path, status, load(**changes), [run(0.0)])
    assert summarise(tmp_path)["kept_up"] is None


def write_test(folder: Path, status: Any, of: Load, lines: list[LoadRun]) -> None:
    (folder / LOAD_FILE).write_text(LoadTestRecord(
        run="r", status=status, started_at=0.0, ended_at=46.0, load=of, thresholds=Thresholds(),
        deployment=Deployment(airflow="http://a")).model_dump_json())
    records.append(folder / LOAD_RUNS_FILE, lines)


def test_the_exhibit_has_no_rate() -> None:
    with pytest.raises(BadInput, match="inherited"):
        asking.patterns("worker,inherited")


def test_on_a_running_stack_its_slots_are_recorded_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "_left", lambda *_: iter(()))       # it ends before its first test
    running = PretendedStack(tmp_path, state_of(tmp_path, slots=32))
    made = comparing.start(PlainSettings(data_dir=tmp_path), running.seen_as, REQUEST, Silent())
    assert read_comparison(made).slots == 32
    assert "<dt>slots</dt><dd>32</dd>" in report.write(made).read_text("utf-8")
    assert "32 slots" in str(tables(made)[0].caption)


def test_an_interrupt_leaves_a_running_stack_idle_before_it_is_switched_back(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = PretendedStack(tmp_path, state_of(tmp_path))
    before = running.state().executor
    busy_at_switch: list[list[str]] = []

    def interrupted(*_: object) -> None:
        running.switch("LocalExecutor", "none")
        monkeypatch.setattr(running, "switch", lambda *_, **__: busy_at_switch.append(running.airflow.active_runs()))
        running.airflow.busy.append(f"{STRESS_DAG}/run-1")
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing._Runner, "_one", interrupted)
    made = comparing.start(PlainSettings(data_dir=tmp_path), running.seen_as, REQUEST, Silent())
    assert read_comparison(made).status == "interrupted"
    assert before == "CeleryExecutor"
    assert busy_at_switch == [[]]


def test_to_go_on_with_it_a_running_stack_needs_the_same_slots(folder: Path) -> None:
    (folder / TESTS_FILE).unlink()
    running = PretendedStack(folder, state_of(folder, slots=32))
    with pytest.raises(BadInput, match="has 32 slots, and 16 are needed"):
        comparing.resume(PlainSettings(data_dir=folder.parent), running.seen_as, folder, "rig", Silent())


def test_to_go_on_with_it_a_stack_of_its_own_has_as_many_slots_as_before(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing._Runner, "run", lambda _: None)
    (folder / COMPARISON_FILE).write_text(comparison(slots=8).model_dump_json())
    nothing = PretendedStack(folder)
    comparing.resume(PlainSettings(data_dir=folder.parent), nothing.seen_as, folder, "rig", Silent())
    assert [call[-1] for call in nothing.asked if call[0] == "up"] == [8]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folders.comparison(tmp_path / "r")


def tables(folder: Path) -> list[Table]:
    return report.load_comparison.tables(report.load_comparison.summarise(folder))


@pytest.mark.parametrize(("capacities", "knee", "each", "saturated"), [
    ((0.5, 0.3, 0.4), "0.400 [0.300, 0.500]", "0.500, 0.300, 0.400", "0.440 [0.330, 0.550]"),
    ((0.5, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4), "0.400 [0.400, 0.400]",
     "0.500, 0.300, 0.400, 0.400, 0.400, 0.400, 0.400, 0.400, 0.400", "0.440 [0.440, 0.440]"),
    ((0.4,), "0.400", "0.400", "0.440"),
    ((2.0, 2.0), "0.800 [0.800, 0.800] or more", "0.800, 0.800", "2.20 [2.20, 2.20]"),
    ((0.01, 0.4, 0.4), "0.400 [0, 0.400]", "0, 0.400, 0.400", "0.440 [0.0110, 0.440]")])
def test_the_knee_has_an_interval_from_its_searches_and_beside_it_what_was_reached_at_most(
        capacities: tuple[float, ...], knee: str, each: str, saturated: str, tmp_path: Path) -> None:
    made = folders.repeated(tmp_path / "r", capacities)
    page = report.write(made).read_text("utf-8")
    assert f"<td>{knee}</td><td>{each}</td><td>{saturated}</td>" in page
    terminal, _ = tables(made)
    assert [list(column.cells) for column in terminal.columns][1:4] == [[knee], [str(len(capacities))], [saturated]]
    (cell,) = json.loads((made / "summary.json").read_text("utf-8"))["cells"]
    enough = len(capacities) >= 6
    assert (cell["searches"]["ci95"] is not None) is enough
    assert (cell["saturated"]["ci95"] is not None) is enough


def test_at_80_percent_of_what_was_reached_the_latency_is_published(tmp_path: Path) -> None:
    made = folders.repeated(tmp_path / "r", (0.4, 0.4))
    page = report.write(made).read_text("utf-8").partition("At 80 % of the saturated throughput</h2>")[2]
    assert "<td>0.360</td>" in page
    assert "<td>45</td><td>0</td><td>4</td><td>4</td>" in page     # DAG runs, failed, median and p95 of run
    _, for_long = tables(made)
    assert [list(column.cells) for column in for_long.columns][:3] == [
        ["LocalExecutor · improved"] * 2, ["0.400", "0.360"], ["4", "4"]]
    assert "the rate that holds, then 80 % of the saturated throughput;" in str(for_long.caption)


def test_without_closed_loops_no_table_speaks_of_what_they_reach(folder: Path) -> None:
    rates, for_long = tables(folder)
    assert [column.header for column in rates.columns] == ["cell", "knee", "searches", "holds"]
    assert "saturated" not in f"{rates.caption} {for_long.caption}"


def test_of_a_closed_loop_the_report_needs_what_it_reached_and_not_its_folder(tmp_path: Path) -> None:
    made = folders.repeated(tmp_path / "r", (0.4,))
    shutil.rmtree(made / "saturated-0")
    rates, _ = tables(made)
    assert [list(column.cells) for column in rates.columns if column.header == "saturated"] == [["0.440"]]


def test_a_comparison_from_before_there_were_repeats_has_one_search_and_no_interval(folder: Path) -> None:
    page = report.write(folder).read_text("utf-8")
    assert "each cell was searched once: there is no interval" in page
    assert "saturated throughput" not in page


def test_the_page_has_the_knee_of_each_cell_and_is_made_again_from_the_folder(folder: Path) -> None:
    page = report.write(runs.find(folder.parent, "r")).read_text("utf-8")
    assert "DAG runs per second that hold: LocalExecutor 0.1." in page
    (cell,) = report.load_comparison.summarise(folder)["cells"]
    assert cell["knee"]["last_rate_that_held"] == pytest.approx(0.1)
    assert [step["holds"] for step in cell["knee"]["steps"]] == [True, False]
    assert cell["knee"]["steps"][0]["opened_per_second"] == pytest.approx(1.0)
    assert cell["held"]["arrivals"] == 19


@pytest.mark.parametrize(("status", "judged"), [("complete", 1), ("interrupted", 0)])
def test_the_last_step_is_judged_where_every_run_has_ended(status: str, judged: int, tmp_path: Path) -> None:
    write_test(tmp_path, status, load(shape="find-the-knee", rate=0.1, seconds=45.0),
               [run(float(due)) for due in range(0, 45, 10)])
    assert len(summarise(tmp_path)["knee"]["steps"]) == judged


@pytest.mark.parametrize(("held", "said"), [
    ([("LocalExecutor", 0.5), ("LocalExecutor", 0.5)], "DAG runs per second that hold: LocalExecutor 0.5."),
    ([("CeleryExecutor", 0.4), ("CeleryExecutor", 0.5), ("LocalExecutor", None)],
     f"DAG runs per second that hold: LocalExecutor {NOTHING}, CeleryExecutor 0.4 to 0.5, by pattern."),
    ([], "No cell was measured.")])
def test_the_headline_has_each_executors_rates(held: list[tuple[str, float | None]], said: str) -> None:
    cells: list[dict[str, Any]] = [
        {"executor": executor, "holds": rate, "knee": {"steps": []}} for executor, rate in held]
    assert report.load_comparison.headline({"cells": cells}) == said


def test_of_too_few_runs_for_a_95th_percentile_every_table_shows_the_longest_and_says_so(folder: Path) -> None:
    comparisons, steps = (report.write(one).read_text("utf-8") for one in (folder, folder / folders.KNEE))
    assert "<td>80</td><td>at most 80</td>" in comparisons
    assert "<td>at most 4</td>" in steps
    assert "started later than due, at most, s" in steps
    _, terminal = tables(folder)
    assert [list(column.cells) for column in terminal.columns if column.header == "run"] == [["at most 80"]]


@pytest.mark.parametrize("name", [folders.KNEE, folders.HELD])
def test_beside_others_a_tests_page_marks_what_was_opened_as_a_lower_bound(folder: Path, name: str) -> None:
    with_others(folder / name)
    page = report.write(folder / name).read_text("utf-8")
    assert "Neo4j accepted at least 99 connections." in page
    assert "<b>≥ 5.21</b><span>connections opened per DAG run</span>" in page
    assert "3 connections of others were seen. What was opened is a lower bound, marked ≥." in page
    assert page.count("<td>≥ ") == 3 + 2 * (name == folders.KNEE)      # the figures, and those of the two steps


def test_beside_others_a_comparison_says_for_which_cells_the_count_is_a_lower_bound(folder: Path) -> None:
    said = ("3 connections of others were seen in one test. What was opened is a lower bound, marked ≥, "
            "for LocalExecutor · improved.")
    assert said not in report.write(folder).read_text("utf-8")
    with_others(folder / folders.HELD)
    page = report.write(folder).read_text("utf-8")
    assert said in page
    assert "<td>≥ 5.21</td>" in page
    assert said in str(tables(folder)[1].caption)


def set_clock(test: Path, step: float) -> None:
    known = json.loads((test / LOAD_FILE).read_text("utf-8"))
    (test / LOAD_FILE).write_text(json.dumps({**known, "clock_step": step}))


SET = "the clock was set by +30.0 s in this load test, or the machine was suspended"


@pytest.mark.parametrize(("name", "judged"), [(folders.KNEE, "knee"), (folders.HELD, "kept_up")])
def test_a_test_in_which_the_clock_was_set_has_no_figure_that_depends_on_it(
        folder: Path, name: str, judged: str) -> None:
    set_clock(folder / name, 0.4)
    assert summarise(folder / name)[judged]
    set_clock(folder / name, 30.0)
    found = summarise(folder / name)
    assert [found[one] for one in (judged, "clock_set")] == [None, SET]
    assert found["broken"] == [f"{SET}: how long DAG runs took is not known"]
    assert [found["outcome"][one] for one in ("succeeded", "connections_opened", "throughput", "connections_left")] == [
        19, 199, None, None]
    assert found["outcome"]["latencies"]["run"] == {"count": 0, "median": None, "p95": None, "highest": None}
    page = report.write(folder / name).read_text("utf-8")
    assert SET in page
    assert "on one time axis" not in page


def test_a_comparison_ends_where_the_clock_was_set_and_runs_that_test_again(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locust(*_: object) -> loading.Ended:
        folders.write_test(tmp_path / "test", shape="find-the-knee")
        set_clock(tmp_path / "test", 30.0)
        return loading.Ended(1, [tmp_path / "test"])

    monkeypatch.setattr(loading, "locust", locust)
    running = PretendedStack(tmp_path, state_of(tmp_path))
    made = comparing.start(PlainSettings(data_dir=tmp_path), running.seen_as, REQUEST, Silent())
    found = read_comparison(made)
    assert (found.status, found.reason) == ("failed", SET)
    assert not (made / TESTS_FILE).exists()


def test_where_connections_were_not_counted_both_pages_say_why(folder: Path) -> None:
    test = folder / folders.HELD
    (test / SERIES_FILE).unlink()
    records.append(test / SERIES_FILE, [sample(float(t), trouble="Neo4j: not watched") for t in range(200)])
    page = report.write(test).read_text("utf-8")
    assert "19 of 19 DAG runs succeeded, and connections were not counted." in page
    assert "Connections were not counted: Neo4j: not watched." in page
    assert "≥" not in page
    said = "Connections were not counted: Neo4j: not watched, for LocalExecutor · improved."
    assert said in report.write(folder).read_text("utf-8")
    assert said in str(tables(folder)[1].caption)


def with_others(test: Path) -> None:
    """Write a test's samples again, with connections of somebody else that the server's ids count too."""
    (test / SERIES_FILE).unlink()
    records.append(test / SERIES_FILE, [
        sample(float(t), opened=t, seen=t // 2, others=3, open=3) for t in range(200)])


def test_a_single_test_has_a_page_too(folder: Path) -> None:
    page = report.write(folder / "0-knee").read_text("utf-8")
    assert "<h1>19 of 19 DAG runs succeeded, and Neo4j accepted 199 connections.</h1>" in page
    assert "<b>10.5</b><span>connections opened per DAG run</span>" in page
    assert "improved on LocalExecutor, find-the-knee" in page
    assert "<td>no</td>" in page
    assert "http" not in page.split("<script>")[0].replace("http-equiv", "")
