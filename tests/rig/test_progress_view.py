"""What a person sees of a comparison: plain lines where there is no terminal, a live panel where there is one."""

import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from rig import progress_view
from rig.experiment import profiles
from rig.experiment.profiles import PROFILES
from rig.progress_view import Estimate, ProgressView
from rig.records import DagRunRecord
from rig.stack.interface import Step
from tests.rig import builders

RUNS = builders.plan(builders.cell(), builders.cell("improved", executor="CeleryExecutor"))


class Clock:
    """Time that goes on only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Screen:
    """A view and what it has written."""

    def __init__(self, *, terminal: bool, said_every: float | None = None) -> None:
        self._file = io.StringIO()
        console = Console(file=self._file, width=120, force_terminal=terminal, color_system=None)
        self.view = ProgressView(console, slots=16, said_every=said_every)

    @property
    def text(self) -> str:
        return self._file.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_view, "time", SimpleNamespace(
        monotonic=clock.monotonic, time=time.time, localtime=time.localtime, strftime=time.strftime))
    return clock


@pytest.fixture
def plain() -> Iterator[Screen]:
    screen = Screen(terminal=False)
    with screen.view:
        yield screen


def whole_comparison(shown: ProgressView) -> None:
    """Let a view live through a comparison of two DAG runs, the second of which hangs."""
    shown.step("neo4j", "downloading", "1 of 237 jars")
    shown.step("neo4j", "downloading", "237 of 237 jars")
    shown.step("neo4j", "starting", "")
    shown.step("neo4j", "ready", "bolt://127.0.0.1:7687")
    shown.planned(RUNS)
    for run, record in zip(RUNS, (builders.dag_run(), hung()), strict=True):
        shown.started(run)
        for moment in range(3):
            shown.sample(builders.sample(moment, range(moment), [1] if moment == 2 else []))
            shown.tasks(running=1, ended=moment)
        shown.ended(run, record)
    shown.note("Report: [somewhere]")


def hung() -> DagRunRecord:
    return builders.dag_run(1, state="hung", reason="it had not ended after 600 s", opened=7, opened_exact=False,
                            opened_reason="a lower bound")


# --- without a terminal ----------------------------------------------------------------------------


def test_without_a_terminal_every_event_is_a_plain_line(plain: Screen) -> None:
    whole_comparison(plain.view)
    assert plain.lines == [
        "neo4j: downloading 1 of 237 jars",
        "neo4j: starting",
        "neo4j: ready bolt://127.0.0.1:7687",
        plain.lines[3],
        plain.lines[4],
        "✓ LocalExecutor · problematic: success in 20 s, 4 connections opened",
        plain.lines[6],
        "✗ CeleryExecutor · improved: hung in 20 s, at least 7 connections opened",
        "  it had not ended after 600 s",
        "Report: [somewhere]",
    ]
    assert re.fullmatch(r"2 DAG runs, about .*: until \d\d:\d\d", plain.lines[3])
    what_for = re.escape("(what the first DAG run costs)")
    assert re.fullmatch(rf"1 of 2: LocalExecutor · problematic {what_for}, until about \d\d:\d\d; "
                        r"all until about \d\d:\d\d", plain.lines[4])
    assert plain.lines[6].startswith("2 of 2: CeleryExecutor · improved (what the first DAG run costs), until about ")


def test_without_a_terminal_nothing_moves_the_cursor(plain: Screen) -> None:
    whole_comparison(plain.view)
    assert "\x1b" not in plain.text
    assert "\r" not in plain.text


@pytest.mark.parametrize(("terminal", "said_every", "lines"), [
    (False, 15.0, ["0 of 100 tasks ended, 16 running; about 11 s left",
                   "40 of 100 tasks ended, 16 running; about 48 s left"]),
    (False, None, []), (True, 15.0, [])])
def test_lines_about_the_tasks_come_as_often_as_asked_for_and_where_there_is_no_terminal(
        terminal: bool, said_every: float | None, lines: list[str], clock: Clock) -> None:
    screen = Screen(terminal=terminal, said_every=said_every)
    [planned] = builders.plan(builders.cell(tasks=100))
    screen.view.planned([planned])
    screen.view.started(planned)
    for seconds, ended in [(16.0, 0), (14.0, 20), (2.0, 40)]:
        clock.now += seconds
        screen.view.tasks(16, ended)
    screen.view.ended(planned, builders.dag_run())
    clock.now += 60.0
    screen.view.tasks(0, 100)
    assert [line for line in screen.lines if "tasks ended" in line] == lines


def test_a_long_line_is_not_broken(plain: Screen) -> None:
    plain.view.note("word " * 60)
    plain.view.step("neo4j", "ready", "x" * 300)
    assert len(plain.lines) == 2


def test_a_step_is_told_again_when_a_service_is_started_again(plain: Screen) -> None:
    steps: list[Step] = ["starting", "ready", "stopping", "stopped", "starting", "ready"]
    for step in steps:
        plain.view.step("redis", step, "")
    assert plain.lines == [f"redis: {step}" for step in steps]


def test_what_looks_like_markup_is_shown_as_it_is(plain: Screen) -> None:
    plain.view.planned(RUNS)
    plain.view.note("[red]/data/[/old]")
    plain.view.ended(RUNS[0], builders.dag_run(state="error", reason="[bold] failed [/x]"))
    assert plain.lines[1] == "[red]/data/[/old]"
    assert plain.lines[-1] == "  [bold] failed [/x]"


@pytest.mark.parametrize(("by_ids", "words"), [
    (None, "4 connections opened, counted by the tap"), (4, "4 connections opened, counted by the tap"),
    (6, "4 connections opened, counted by the tap (6 by the ids of the server)")])
def test_what_a_tap_counted_says_so_and_whether_the_ids_differ(by_ids: int | None, words: str, plain: Screen) -> None:
    plain.view.planned(RUNS)
    plain.view.ended(RUNS[0], builders.dag_run(counted_by="tap", ids_opened=by_ids))
    assert plain.lines[-1].endswith(words)


def test_connections_that_were_not_counted_say_why(plain: Screen) -> None:
    plain.view.planned(RUNS)
    plain.view.ended(RUNS[0], builders.dag_run(opened=None, opened_exact=False, opened_reason="it was away"))
    assert plain.lines[-1].endswith("connections not counted: it was away")


# --- on a terminal ---------------------------------------------------------------------------------


def test_on_a_terminal_the_run_in_progress_is_shown_with_its_connections() -> None:
    screen = Screen(terminal=True)
    with screen.view as shown:
        shown.step("neo4j", "ready", "bolt://127.0.0.1:7687")
        shown.step("airflow-scheduler", "starting", "")
        shown.planned(RUNS)
        shown.started(RUNS[0])
        shown.sample(builders.sample(10, range(12), range(5)))
        shown.tasks(running=1, ended=0)
        shown.note("a note above the panel")
    for shown_text in ("neo4j", "ready bolt://127.0.0.1:7687", "airflow-scheduler", "0 of 2 DAG runs",
                       "LocalExecutor · problematic", "0 of 2 tasks ended, 1 running", "12 open, 7 idle",
                       "a note above the panel"):
        assert shown_text in screen.text


def test_on_a_terminal_a_whole_comparison_is_shown() -> None:
    screen = Screen(terminal=True)
    with screen.view as shown:
        whole_comparison(shown)
    assert "2 of 2 DAG runs" in screen.text
    assert "✗ CeleryExecutor · improved: hung in 20 s" in screen.text


def test_before_the_first_sample_no_number_is_made_up() -> None:
    screen = Screen(terminal=True)
    with screen.view as shown:
        shown.planned(RUNS)
        shown.started(RUNS[0])
    assert "not seen yet" in screen.text
    assert " open, " not in screen.text


def test_the_next_run_does_not_begin_with_the_connections_of_the_last() -> None:
    screen = Screen(terminal=True)
    with screen.view as shown:
        shown.planned(RUNS)
        shown.started(RUNS[0])
        shown.sample(builders.sample(10, range(77)))
        shown.ended(RUNS[0], builders.dag_run())
        shown.started(RUNS[1])
    assert "not seen yet" in screen.text.rsplit("CeleryExecutor · improved", 1)[-1]


def test_an_error_leaves_the_terminal_as_it_was() -> None:
    screen = Screen(terminal=True)
    with pytest.raises(KeyboardInterrupt), screen.view:
        raise KeyboardInterrupt
    assert "\x1b[?25h" in screen.text, "the cursor stays hidden"


# --- the time left ---------------------------------------------------------------------------------


def test_the_estimate_falls_as_runs_end_and_comes_to_nothing(clock: Clock) -> None:
    planned, estimate = profiles.plan(PROFILES["seed"], seed=1), Estimate(slots=16)     # all of one length
    estimate.plan(planned)
    each, seen = estimate.seconds() / len(planned), [estimate.seconds()]
    for _ in planned:
        clock.now += each
        estimate.ended()
        seen.append(estimate.seconds())
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen)
    assert seen[-1] == 0


def test_the_estimate_falls_with_the_time_within_a_run(clock: Clock) -> None:
    estimate = Estimate(slots=16)
    estimate.plan(RUNS)
    before = estimate.seconds()
    clock.now += 5
    assert estimate.seconds() == pytest.approx(before - 5)


def test_what_comes_before_the_first_run_is_no_part_of_its_time(clock: Clock) -> None:
    estimate = Estimate(slots=16)
    estimate.plan(RUNS)
    before = estimate.seconds()
    clock.now += 10_000
    estimate.began()
    assert estimate.seconds() == pytest.approx(before - progress_view.RESTARTING)


def test_the_estimate_is_never_negative(clock: Clock) -> None:
    estimate = Estimate(slots=16)
    assert estimate.seconds() == 0
    estimate.plan(RUNS)
    for _ in RUNS:
        clock.now += 10_000
        assert estimate.seconds() >= 0
        estimate.ended()
        assert estimate.seconds() >= 0
    clock.now += 10_000
    assert estimate.seconds() == 0


def test_a_warm_run_is_expected_to_take_less_since_nothing_is_restarted(clock: Clock) -> None:
    estimate, cell = Estimate(slots=16), builders.cell()

    def seconds(warm: bool) -> float:
        estimate.plan(builders.plan(cell.model_copy(update={"warm": warm})))
        return estimate.seconds()
    assert seconds(warm=True) < seconds(warm=False)


def test_a_run_that_takes_longer_does_not_use_up_the_time_of_those_after_it(clock: Clock) -> None:
    estimate = Estimate(slots=16)
    estimate.plan([RUNS[0]] * 4)
    of_three = estimate.seconds() * 3 / 4
    clock.now += 10_000
    assert estimate.seconds() == pytest.approx(of_three)


def test_the_estimate_learns_from_the_runs_so_far(clock: Clock) -> None:
    estimate = Estimate(slots=16)
    estimate.plan([RUNS[0]] * 3)
    each = estimate.seconds() / 3
    clock.now += 2 * each
    estimate.ended()
    assert estimate.seconds() == pytest.approx(2 * 2 * each)


def test_more_tasks_longer_holds_and_fewer_slots_are_expected_to_take_longer(clock: Clock) -> None:
    def seconds(tasks: int = 100, hold: float = 2.0, slots: int = 16) -> float:
        estimate = Estimate(slots)
        estimate.plan(profiles.plan(replace(PROFILES["default"], tasks=tasks, hold=hold), seed=1))
        return estimate.seconds()

    assert seconds() < min(seconds(tasks=1000), seconds(hold=20), seconds(slots=1))


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 s"), (-5, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (3600, "60 min 00 s")])
def test_a_duration_is_shown_in_minutes_and_seconds(seconds: float, text: str) -> None:
    assert progress_view.clock(seconds) == text


def test_a_cell_is_named_by_what_sets_it_apart() -> None:
    cell = builders.cell()
    assert progress_view.cell_name(cell) == "LocalExecutor · problematic"
    assert progress_view.cell_name(cell.model_copy(update={"driver": "async", "relay": "shared"})) == (
        "LocalExecutor · problematic (async) via shared relay")
    assert progress_view.cell_name(cell.model_copy(update={"preload": True, "warm": True})) == (
        "LocalExecutor · problematic, preloaded, warm")
    assert progress_view.cell_name(cell.model_copy(update={"warm": True})) == "LocalExecutor · problematic, warm"
    assert progress_view.cell_name(cell.model_copy(update={"control": True})) == "LocalExecutor · problematic, again"
