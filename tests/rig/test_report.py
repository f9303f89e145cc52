"""The page and the summary: complete, readable without a network, and true to the figures."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from patterns.facts import Executor
from rig import closing, metrics, records, report
from rig.environment import BEHIND_A_TAP, OWN_NEO4J
from rig.errors import BadInput
from rig.metrics import METRICS, Summary, summarise
from rig.metrics.model import Contrast, Side
from rig.metrics.raw import RawRun
from rig.records import Cell, DagRunRecord, Relay, RunRecord
from rig.report import charts, distributions, headline, phrases, plot, task_time
from rig.report.advice import advice
from rig.report.deployment import deployment
from rig.report.lifelines import lifelines
from rig.report.limitations import limitations
from rig.report.verdicts import verdict
from tests.rig import builders, synthetic

NUMBER = {"type": ["number", "null"]}
SIDE = {"type": "object", "required": ["executor", "pattern", "relay"], "properties": {
    "executor": {"enum": ["LocalExecutor", "CeleryExecutor"]}, "pattern": {"type": "string"},
    "relay": {"enum": ["none", "process", "shared"]}}}
INTERVAL = {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
METRIC = {"type": "object", "required": ["unit", "better", "raw", "median", "ci95", "reason"], "properties": {
    "unit": {"type": "string"}, "better": {"enum": ["lower", "higher", None]},
    "raw": {"type": "array", "items": NUMBER}, "median": NUMBER, "ci95": INTERVAL,
    "reason": {"type": ["string", "null"]}}}
CELL = {"type": "object", "required": [
    *SIDE["required"], "tasks", "calls_per_task", "repeats", "tasks_succeeded", "tasks_wrong", "worker_processes",
    "concurrency_reached", "metrics"], "properties": {
        **SIDE["properties"],   # type: ignore[dict-item]
        **{name: {"type": "integer"} for name in ("tasks", "calls_per_task", "repeats", "tasks_succeeded",
                                                  "tasks_wrong")},
        "worker_processes": NUMBER, "concurrency_reached": NUMBER,
        "metrics": {"type": "object", "additionalProperties": METRIC,
                    "required": [metric.name for metric in METRICS]}}}
CONTRAST = {"type": "object", "required": ["metric", "baseline", "contender", "ratio", "ci95"], "properties": {
    "metric": {"enum": [metric.name for metric in METRICS]}, "baseline": SIDE, "contender": SIDE, "ratio": NUMBER,
    "ci95": INTERVAL}}
SCHEMA = {"type": "object", "required": ["schema", "run", "profile", "seed", "environment", "cells", "contrasts"],
          "properties": {"schema": {"const": 2}, "run": {"type": "string"}, "profile": {"type": "string"},
                         "seed": {"type": "integer"},
                         "environment": {"type": "object", "required": ["versions", "cpu", "memory"]},
                         "cells": {"type": "array", "items": CELL},
                         "contrasts": {"type": "array", "items": CONTRAST}}}

class Page(HTMLParser):
    """What a browser would make of the page: its elements, and its texts outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self._inside = tag
        self.tags[tag] += 1
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the base class's signature
        """Leave whatever is open: scripts and styles have no elements in them."""
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Sort a text by the element it is in."""
        if self._inside == "style":
            self.styles.append(data)
        elif self._inside != "script":
            self.words.append(data)

    @property
    def text(self) -> str:
        """Return the page's texts as one line."""
        return re.sub(r"\s+", " ", " ".join(self.words))


def page(folder: Path) -> Page:
    return Page(report.write(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run of eight cells with three repeats that looks like a real one; nobody else writes to it."""
    folder = synthetic.folder(tmp_path_factory.mktemp("real"), synthetic.eight(tasks=20), slots=4)
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def read(real: Path) -> RawRun:
    return metrics.load(real)


@pytest.fixture(scope="module")
def summed(read: RawRun) -> Summary:
    return metrics.summary_of(read)


@pytest.fixture(scope="module")
def real_page(real: Path) -> Page:
    return Page((real / records.REPORT_FILE).read_text(encoding="utf-8"))


def changed(folder: Path, **changes: Any) -> Path:
    records.write_run(folder, RunRecord.model_validate({**records.read_run(folder).model_dump(), **changes}))
    return folder


def nothing(folder: Path) -> Path:
    return builders.write(folder, builders.run([]))


def not_run(folder: Path) -> Path:
    planned = builders.plan(builders.cell(), builders.cell(executor="CeleryExecutor"))
    return builders.write(folder, builders.run(planned, status="interrupted", reason="Ctrl-C"))


def hung(folder: Path) -> Path:
    return builders.tiny(folder, state="hung", reason="no task ended for 300 s", opened=None, last_id=None)


def bound(folder: Path) -> Path:
    return builders.tiny(folder, repeats=3, opened=3, opened_exact=False, opened_reason="other users")


def cut_off(folder: Path) -> Path:
    builders.tiny(folder)
    with (folder / records.TASKS_FILE).open("a") as file:
        file.write('{"index":0,"map_in')
    return folder


def unsampled(folder: Path) -> Path:
    builders.tiny(folder)
    (folder / records.SAMPLES_FILE).unlink()
    return folder


EVERY_KIND = [builders.tiny, nothing, not_run, hung, bound, cut_off, unsampled]


# The files

def violations(summary: Any) -> list[str]:
    """Return what of the summary is not as its schema says."""
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(summary)]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_summary_keeps_its_schema_whatever_is_missing(tmp_path: Path, kind: Any) -> None:
    report.write(kind(tmp_path))

    assert violations(json.loads((tmp_path / records.SUMMARY_FILE).read_text())) == []


def test_the_summary_of_a_full_run_keeps_its_schema(real: Path) -> None:
    summary = json.loads((real / records.SUMMARY_FILE).read_text())

    assert violations(summary) == []
    assert len(summary["cells"]) == 8
    assert all(len(metric["raw"]) == 3 for cell in summary["cells"] for metric in cell["metrics"].values())


def test_a_report_is_made_again_from_the_raw_files_alone(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path, repeats=3)
    first = {path.name: path.read_bytes() for path in (report.write(folder), folder / records.SUMMARY_FILE)}
    for name in first:
        (folder / name).unlink()
    report.write(folder)

    assert {name: (folder / name).read_bytes() for name in first} == first
    assert not list(folder.glob("*.part"))


def test_a_report_that_cannot_be_made_leaves_the_last_one_alone(tmp_path: Path) -> None:
    before = report.write(builders.tiny(tmp_path)).read_bytes()
    (tmp_path / records.TASKS_FILE).write_text("damaged\n")

    with pytest.raises(BadInput):
        report.write(tmp_path)
    assert (tmp_path / records.REPORT_FILE).read_bytes() == before


def test_a_page_that_fails_half_way_leaves_both_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = builders.tiny(tmp_path)
    report.write(folder)
    before = [(folder / name).read_bytes() for name in (records.REPORT_FILE, records.SUMMARY_FILE)]
    changed(folder, profile="other")

    def fail(*_: object) -> str:
        raise OSError("no page")
    monkeypatch.setattr(report, "html", fail)

    with pytest.raises(OSError, match="no page"):
        report.write(folder)
    assert [(folder / name).read_bytes() for name in (records.REPORT_FILE, records.SUMMARY_FILE)] == before


# A page that needs nothing

def test_the_page_loads_nothing(real_page: Page) -> None:
    loading = {"src", "href", "srcset", "data", "poster", "action", "background"}
    found = [(tag, name) for tag, attributes in real_page.elements for name in attributes if name in loading]

    assert found == []
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(real_page.tags)
    assert not re.search(r"url\(|@import|https?:", "".join(real_page.styles))


def test_the_page_forbids_the_browser_to_load_anything(real_page: Page) -> None:
    [policy] = [attributes["content"] for tag, attributes in real_page.elements
                if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"]

    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "*" not in policy


HOSTILE = "</script><script>alert(1)</script>"


def test_nothing_that_a_run_recorded_becomes_markup(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path / "tame", state="failed", reason="tame")
    tame = page(folder)
    hostile_folder = builders.write(
        tmp_path / "hostile",
        builders.run(builders.plan(builders.cell(HOSTILE)), command=HOSTILE, run=HOSTILE, reason=HOSTILE,
                     environment={"versions": {HOSTILE: HOSTILE}, "cpu": HOSTILE, "memory": {}}),
        dag_runs=[builders.dag_run(state="failed", reason=HOSTILE)], samples=builders.tiny_samples(),
        tasks=[builders.task(0, 1, 2, 3, state="failed", reason=HOSTILE)])
    hostile = page(hostile_folder)

    assert hostile.tags["script"] == tame.tags["script"]
    assert hostile.text.count("alert(1)") >= 5


def test_no_secret_reaches_the_report(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path, state="failed", reason="bolt://neo4j:s3cret@db:7687 refused")
    changed(folder, command="NEO4J_PASSWORD=s3cret rig compare", reason="password: s3cret", status="failed",
            environment={"versions": {}, "cpu": {}, "memory": {}, "neo4j_password": "s3cret"})
    builders.rewrite(folder / records.TASKS_FILE, [
        builders.task(0, 1, 2, 3, state="failed", reason="AuthError for neo4j://neo4j:s3cret@db")])
    report.write(folder)

    assert "s3cret" not in (folder / records.REPORT_FILE).read_text()
    assert "s3cret" not in (folder / records.SUMMARY_FILE).read_text()


# A page for everybody

def test_every_table_and_chart_says_what_it_is(real_page: Page) -> None:
    assert real_page.tags["table"] == real_page.tags["caption"] >= 5
    assert real_page.tags["h1"] == 1
    assert ("html", {"lang": "en"}) in real_page.elements
    drawings = [attributes["aria-label"] or "" for _, attributes in real_page.elements
                if attributes.get("role") == "img"]
    assert len(drawings) >= 1 + 2 + 8 + 8
    assert all(re.search(r"(peak|opened|connections|median).*\d", said) for said in drawings)


def test_every_heading_of_a_column_has_a_scope(real_page: Page) -> None:
    assert all("scope" in attributes for tag, attributes in real_page.elements if tag == "th")


def test_the_page_has_colours_for_light_and_dark(real_page: Page) -> None:
    style = "".join(real_page.styles)
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]

    def names(part: str) -> set[str]:
        return set(re.findall(r"(--[\w-]+): #", part))
    assert names(light) >= names(dark.split("\n}")[0]) > {"--page", "--hue-problematic", "--hue-other"}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_there_is_a_page_whatever_is_missing(tmp_path: Path, kind: Any) -> None:
    text = page(kind(tmp_path)).text

    for title in ("What one DAG run costs the database", "Idle connections over time",
                  "Connections opened against closed", "The cells", "Contrasts",
                  "The popular advice, and what it did here", "The seed's claim", "What failed", "Limitations",
                  "Environment and versions", "To do it again"):
        assert title in text
    assert "None" not in text
    assert "nan" not in text.split()


def test_the_page_has_the_cells_and_every_metric(real_page: Page) -> None:
    for metric in metrics.METRICS + metrics.CONDITIONS:
        assert metric.name in real_page.text
    for cell in ("problematic", "improved", "hook", "worker (relay per process)", "worker (shared relay)"):
        assert cell in real_page.text


def test_the_page_says_how_to_do_it_again_and_where_it_was_done(real_page: Page) -> None:
    for said in ("rig compare --profile quick --seed 7", "rig report run-1", "versions · neo4j 2026.08.1",
                 "cpu · model Some CPU",
                 "1970-01-01 00:16:40 UTC"):
        assert said in real_page.text


def test_a_hang_is_listed_with_its_reason_and_its_tasks(tmp_path: Path) -> None:
    folder = hung(tmp_path)
    first, second = builders.tiny_tasks()
    builders.rewrite(folder / records.TASKS_FILE, [
        first, second.model_copy(update={"state": "running", "ended_at": None, "row": None, "reason": "no end"})])
    text = page(folder).text

    for said in ("0 of 1 DAG run succeeded, 1 of 2 tasks", "hung", "no task ended for 300 s", "1 of 2",
                 "1 task: running: no end", "0 of 1 repeat"):
        assert said in text


def test_nothing_failed_is_said_too(tmp_path: Path) -> None:
    assert "Nothing: every DAG run and every task succeeded" in page(builders.tiny(tmp_path)).text


def test_a_run_of_few_repeats_says_that_it_has_no_intervals(tmp_path: Path) -> None:
    few = page(builders.tiny(tmp_path / "few", repeats=2)).text
    enough = page(builders.tiny(tmp_path / "enough", repeats=6)).text

    assert "with fewer than six repeats there are no intervals" in few
    assert "with 95 % intervals in brackets" in enough
    assert "4 [4, 4]" in enough


def test_a_machine_is_described_for_people(tmp_path: Path) -> None:
    text = page(changed(builders.tiny(tmp_path), environment={
        "versions": {"flower": None}, "cpu": {}, "memory": {"total_bytes": 3 * 2**30}})).text

    assert "versions · flower \N{EN DASH}" in text
    assert "memory · total 3.0 GiB" in text


def test_sync_and_async_cells_are_told_apart(tmp_path: Path) -> None:
    cells = [builders.cell(pattern).model_copy(update={"driver": driver})
             for driver in ("async", "sync") for pattern in ("problematic", "improved")]
    folder = builders.write(tmp_path, builders.run(builders.plan(*cells)),
                            dag_runs=[builders.dag_run(index, opened=4 + index) for index in range(4)],
                            samples=[one for index in range(4) for one in builders.tiny_samples(index)])
    summary = summarise(folder)
    raw = metrics.load(folder)
    [panel] = charts.idle_panels(charts.drawn(raw, summary.cells))

    assert [phrases.variant(cell) for cell in summary.cells] == ["problematic", "problematic (async)", "improved",
                                                               "improved (async)"]
    assert {(phrases.variant(c.baseline), phrases.variant(c.contender)) for c in summary.contrasts} == {
        ("problematic", "improved"), ("problematic (async)", "improved (async)")}
    assert len({(line.hue, line.dash) for line in panel.lines}) == 4
    assert "improved/async" in shown(summary)


def test_a_lower_bound_is_shown_as_one(tmp_path: Path) -> None:
    text = page(bound(tmp_path)).text

    assert "2 tasks opened at least 3 connections." in text
    assert "≥ 3" in text
    assert "Others use the server too. What was opened is a lower bound, marked ≥, for problematic on Local" in text


def test_connections_of_others_are_said_on_the_page_and_in_the_terminal(tmp_path: Path) -> None:
    folder = bound(tmp_path)
    builders.rewrite(folder / records.DAG_RUNS_FILE, [
        record.model_copy(update={"others": 3 - record.index})      # two may be the same, so that they are no sum
        for record in records.read(folder / records.DAG_RUNS_FILE, DagRunRecord)])

    said = "3 connections of others were seen in one DAG run"
    assert f"{said}. What was opened is a lower bound" in page(folder).text
    assert f"{said}: ≥ is a lower bound" in " ".join(shown(summarise(folder)).split())


def test_an_unfinished_run_and_wrong_answers_are_said_at_the_top(tmp_path: Path) -> None:
    folder = changed(builders.tiny(tmp_path), status="interrupted", reason="Ctrl-C")
    builders.rewrite(folder / records.TASKS_FILE, [
        task.model_copy(update={"row": {**(task.row or {}), "wrong": 1}}) for task in builders.tiny_tasks()])

    assert headline.alarms(summarise(folder)) == [
        "This run was interrupted: Ctrl-C. The figures are those that were recorded.",
        "2 tasks got a wrong answer: the run fails, whatever its figures."]


def test_what_was_not_run_is_one_line_and_no_row_and_no_panel(tmp_path: Path) -> None:
    text = page(not_run(tmp_path)).text

    assert "2 DAG runs of 2 have no result: not run: the run is interrupted (Ctrl-C)." in text
    assert "rig compare --resume" in text
    assert "Of the DAG runs that were run, none failed." in text
    assert text.count("Nothing was sampled.") == 2        # idle connections: a panel for each executor


def exhibited(folder: Path, **changes: Any) -> Summary:
    """Return the summary of a run in which all went well but the exhibit: one wrong answer, one failed task."""
    cells = builders.cell("improved"), builders.cell("inherited", "CeleryExecutor")
    right = [builders.task(index, 1001, 1002, 1006, row=builders.row(11 + index)) for index in range(2)]
    wrong = [builders.task(0, 1001, 1002, 1006, index=1, row=builders.row(21, wrong=1), state="failed"),
             builders.task(1, 1001, 1002, 1006, index=1, row=None, state="failed")]
    return summarise(builders.write(folder, builders.run(builders.plan(*cells)), tasks=[*right, *wrong], dag_runs=[
        builders.dag_run(0), builders.dag_run(1, state="hung", reason="it had not ended after 120 s")]))


def test_what_the_exhibit_breaks_is_counted_and_is_no_failure_of_the_run(tmp_path: Path) -> None:
    summary = exhibited(tmp_path)
    assert headline.exhibit(summary) == (
        "The exhibit, inherited: of 2 tasks that used a driver inherited through the fork, 1 got a wrong answer and 1 "
        "more did not succeed; 1 DAG run of 1 never ended. The exhibit is there to show this; the run has not failed.")
    assert headline.alarms(summary) == []
    assert headline.outcome(summary) == "1 of 1 DAG run succeeded, 2 of 2 tasks; no task got a wrong answer."
    assert "inherited" not in headline.headline(summary)
    assert closing.failures(summary) == ""


def test_a_run_of_the_exhibit_alone_says_so(tmp_path: Path) -> None:
    summary = opened(tmp_path, {builders.cell("inherited", "CeleryExecutor"): 3})
    assert headline.headline(summary) == "This run shows what breaks with a driver that tasks inherit."
    assert headline.outcome(summary) == ""


def test_without_an_exhibit_nothing_is_said_of_one(tmp_path: Path) -> None:
    assert headline.exhibit(summarise(builders.tiny(tmp_path))) is None


def test_a_cold_and_a_warm_run_are_told_apart(tmp_path: Path) -> None:
    cold = builders.cell("worker", "CeleryExecutor", "process")
    counts: dict[Cell, int | None] = {cold: 16, cold.model_copy(update={"warm": True}): 0}
    summary = opened(tmp_path, counts)
    assert headline.headline(summary) == "2 tasks opened 16 connections with worker (relay per process)."
    text = shown(summary)
    assert "worker/process/warm" in text
    assert "…" not in text
    assert len({phrases.stroke(cell) for cell in summary.cells}) == 2


def test_every_stroke_has_a_dash_that_no_other_has() -> None:
    for relay, warm, driver, preload in product(("none", "process", "shared"), (False, True), ("sync", "async"),
                                                (False, True)):
        side = Side(executor="LocalExecutor", pattern="worker", relay=relay, driver=driver, warm=warm, preload=preload)
        assert phrases.stroke(side) in charts.DASHES
    assert len(set(charts.DASHES.values())) == len(charts.DASHES)


def test_preloaded_cells_have_a_section_of_their_own_and_are_in_no_sentence(tmp_path: Path) -> None:
    cells = [builders.cell("problematic", preload=True, tasks=100),
             *(builders.cell("improved", preload=preload, tasks=100) for preload in (True, False))]
    summary = opened(tmp_path, dict(zip(cells, (300, 7, 100), strict=True)))
    assert headline.headline(summary) == "100 tasks opened 100 connections with improved."
    assert headline.subtitle(summary) == "Connections that the server accepted in one DAG run, on LocalExecutor."
    assert [figure.value for figure in headline.figures(summary)] == ["100"]
    assert next(one.effect for one in advice(summary) if one.advice == "Cache one driver per process") is None
    assert "  preloaded" in shown(summary)
    page_ = report.write(tmp_path).read_text("utf-8")
    assert "Preloading: modules imported before the fork" in page_
    assert "improved (preloaded)" in page_


def test_the_longest_name_of_a_preloaded_cell_leaves_room_for_its_figures(tmp_path: Path) -> None:
    text = shown(opened(tmp_path, {builders.cell("worker", "CeleryExecutor", "process", preload=True, warm=True): 16}))
    assert "worker/process/warm" in text
    assert "…" not in text


def test_a_run_of_preloaded_cells_alone_tells_of_them(tmp_path: Path) -> None:
    summary = opened(tmp_path, {builders.cell("problematic", preload=True): 6,
                                builders.cell("improved", preload=True): 2})
    assert headline.headline(summary).startswith("2 tasks opened 6 connections; ")
    assert next(one.effect for one in advice(summary) if one.advice == "Cache one driver per process")


# Sentences from figures

def opened(folder: Path, counts: dict[Cell, int | None], **changes: Any) -> Summary:
    """Return the summary of a run whose cells opened so many connections, one repeat each."""
    return summarise(builders.write(folder, builders.run(builders.plan(*counts)), dag_runs=[
        builders.dag_run(index, opened=count, opened_reason="lost", **changes)
        for index, count in enumerate(counts.values())]))


def both(**counts: tuple[int | None, int | None]) -> dict[Cell, int | None]:
    executors: tuple[Executor, Executor] = ("LocalExecutor", "CeleryExecutor")
    return {builders.cell(pattern, executor, tasks=100): count for pattern, pair in counts.items()
            for executor, count in zip(executors, pair, strict=True)}


def remedied(warm: int | None = None, relay: Relay = "process", **counts: int) -> dict[Cell, int | None]:
    """Return what cells opened on CeleryExecutor: patterns without a relay, the shared driver, and it once more."""
    shared = builders.cell("worker", "CeleryExecutor", relay, tasks=100)
    found: dict[Cell, int | None] = {
        shared if pattern == "worker" else builders.cell(pattern, "CeleryExecutor", tasks=100): count
        for pattern, count in counts.items()}
    return found if warm is None else found | {shared.model_copy(update={"warm": True}): warm}


CACHED = "with a driver cached in each task\N{RIGHT SINGLE QUOTATION MARK}s process"


@pytest.mark.parametrize(("counts", "said"), [
    (remedied(problematic=300, improved=100, worker=16, warm=0),
     "100 tasks opened 300 connections; with one driver per worker process 16, and none from then on."),
    (remedied(problematic=300, improved=100, worker=16, warm=4),
     "100 tasks opened 300 connections; with one driver per worker process 16, and 4 in the next DAG run."),
    (remedied(problematic=300, worker=3, relay="shared"),
     "100 tasks opened 300 connections; with one driver for all of them 3."),
    (both(problematic=(300, 300), improved=(100, 100)), f"100 tasks opened 300 connections; {CACHED} 100."),
    (both(problematic=(300, 300), improved=(100, 90)), f"100 tasks opened 300 connections; {CACHED} 90."),
    (both(problematic=(300, 290), improved=(100, None)), f"100 tasks opened 300 connections; {CACHED} 100."),
    (both(improved=(100, 100)), "100 tasks opened 100 connections with improved."),
    ({builders.cell("problematic", tasks=1): 1234}, "1 task opened 1,234 connections."),
    ({builders.cell("problematic", tasks=9): 9, builders.cell("improved", tasks=3): 3},
     "9 tasks opened 9 connections."),
    ({builders.cell("hook"): 5}, "2 tasks opened 5 connections with hook."),
    ({builders.cell(): None}, "This run measured no connection."),
    ({}, "This run measured no connection."),
])
def test_the_headline_is_one_sentence_from_the_figures(tmp_path: Path, counts: dict[Cell, int | None],
                                                       said: str) -> None:
    assert headline.headline(opened(tmp_path, counts)) == said


def test_three_numbers_stand_below_the_sentence(summed: Summary, tmp_path: Path) -> None:
    summary = opened(tmp_path, remedied(problematic=300, improved=100, worker=16, warm=0))

    assert [(one.value, one.hue) for one in headline.figures(summary)] == [
        ("300", "problematic"), ("100", "improved"), ("16", "worker")]
    assert headline.figures(summary)[-1].beside == "0 opened in the next DAG run"
    assert re.fullmatch(r"[\d.]+ connection-seconds idle", headline.figures(summed)[0].beside)


@pytest.mark.parametrize(("counts", "said"), [
    (both(problematic=(300, 300), improved=(100, 90)), "on CeleryExecutor. LocalExecutor has the same counts for "
                                                       "problematic."),
    (both(problematic=(300, 290)), "in one DAG run, on CeleryExecutor."),
    (remedied(problematic=300), "in one DAG run, on CeleryExecutor.")])
def test_the_subtitle_says_where_and_whether_the_executor_makes_a_difference(
        tmp_path: Path, counts: dict[Cell, int | None], said: str) -> None:
    assert headline.subtitle(opened(tmp_path, counts)).endswith(said)


def idle(folder: Path, problematic: int, improved: int) -> str:
    cells = [builders.cell("problematic"), builders.cell("improved")]
    summary = summarise(builders.write(
        folder, builders.run(builders.plan(*cells)), dag_runs=[builders.dag_run(0), builders.dag_run(1)],
        samples=[builders.sample(t, range(100, 100 + peak), index=index)
                 for index, peak in enumerate((problematic, improved)) for t in range(1000, 1015)],
        tasks=builders.tiny_tasks(0) + builders.tiny_tasks(1)))
    return headline.claim_sentence(summary.seed_claim.executors[0]).replace("\N{NO-BREAK SPACE}", " ")


NO_TEST = "No test of the claim on LocalExecutor: at the peak"


@pytest.mark.parametrize(("problematic", "improved", "said"), [
    (36, 9, f"{NO_TEST} 36 idle connections with problematic and 9 with improved, "
            "75 % fewer; in the mean 36 and 9, 75 % fewer."),
    (36, 18, f"{NO_TEST} 36 idle connections with problematic and 18 with improved, "
             "50 % fewer; in the mean 36 and 18, 50 % fewer."),
    (16, 16, f"{NO_TEST} 16 idle connections with problematic and 16 with improved, "
             "the same; in the mean 16 and 16, the same."),
    (10, 12, f"{NO_TEST} 10 idle connections with problematic and 12 with improved, "
             "20 % more; in the mean 10 and 12, 20 % more."),
    (0, 2, "Not answered on LocalExecutor: problematic had no idle connection.")])
def test_the_claims_sentence_comes_from_the_figures(tmp_path: Path, problematic: int, improved: int,
                                                   said: str) -> None:
    assert idle(tmp_path, problematic, improved).startswith(said)


@pytest.mark.parametrize(("own", "said"), [(False, True), (True, False), (None, False)])
def test_what_a_cluster_hides_is_said_where_the_server_is_not_the_rigs_own(
        own: bool | None, said: bool, tmp_path: Path) -> None:
    known = {} if own is None else {OWN_NEO4J: own}     # a run of an earlier rig does not say
    folder = changed(builders.tiny(tmp_path), environment={**builders.ENVIRONMENT, **known})
    assert ("connections to other members are in no figure" in " ".join(limitations(summarise(folder)))) is said


@pytest.mark.parametrize("tapped", [True, False])
def test_a_report_says_how_connections_were_counted(tapped: bool, tmp_path: Path) -> None:
    more = {OWN_NEO4J: False} | ({BEHIND_A_TAP: True} if tapped else {})
    folder = changed(builders.tiny(tmp_path, counted_by="tap" if tapped else "samples"),
                     environment={**builders.ENVIRONMENT, **more})
    said = " ".join(limitations(summarise(folder)))
    page = report.write(folder).read_text(encoding="utf-8")
    assert ("were counted by a tap" in said, "in no figure but those opened" in said) == (tapped, tapped)
    assert ("counted by a tap in front of it" in page, "counted by its own ids" in page) == (tapped, not tapped)


def test_the_limitations_have_the_runs_own_figures(summed: Summary, tmp_path: Path) -> None:
    said = " ".join(limitations(summed))

    assert "sampled every 0.210 s (median); the 95th percentile of the slowest DAG run is 0.229 s" in said
    assert "72 connections" in said                     # 3 in each of 24 DAG runs
    assert "Every cell had 4 slots, and at some moment all were in use; on average" in said
    assert "No noise floor" in said
    assert "No intervals and no verdicts: they need 6 DAG runs of each cell, and this has 3 at most" in said


def test_slots_that_were_not_reached_are_a_limitation(tmp_path: Path) -> None:
    said = " ".join(limitations(summarise(builders.tiny(tmp_path))))

    assert "16 slots, but not all used them. Tasks at once at most: problematic on LocalExecutor 2; on" in said


@pytest.mark.parametrize(("value", "said"), [
    (None, "\N{EN DASH}"), (0, "0"), (300, "300"), (12345, "12,345"), (27.504544, "27.5"), (9.4214, "9.42"),
    (0.13671, "0.137"), (712.4, "712"), (5.0, "5"), (-3, "-3"), (0.00008, "8.00e-05"), (99.97, "100")])
def test_a_number_has_three_digits_that_count(value: float | None, said: str) -> None:
    assert phrases.number(value) == said


def contrast(verdict: str | None, better: str | None = "lower", at_most: float | None = None) -> Contrast:
    side = Side(executor="LocalExecutor", pattern="improved", relay="none", driver="sync")
    return Contrast.model_validate({
        "metric": "x", "unit": "s", "better": better, "between": "patterns", "family": "primary", "family_size": 8,
        "blocks": 6, "baseline": side, "contender": side, "baseline_median": 2, "contender_median": 1,
        "difference": -1, "ratio": 0.5, "range": None, "ci95": None, "level": 0.99, "noise_floor": None,
        "reason": None, "ci95_reason": None, "verdict": verdict, "at_most": at_most,
        "verdict_reason": None if verdict else "3 of 6 complete blocks needed"})


@pytest.mark.parametrize(("found", "better", "at_most", "words", "tone"), [
    ("lower", "lower", None, "lower", "good"), ("higher", "lower", None, "higher", "bad"),
    ("higher", "higher", None, "higher", "good"), ("lower", None, None, "lower", ""),
    ("no difference larger than", "lower", 0.1, "no difference larger than 10 %", ""),
    ("no difference larger than", "lower", 0.0, "no difference larger than 0 %", ""),
    ("too noisy to say", "lower", None, "too noisy to say", "")])
def test_a_verdict_is_that_of_the_contrast(found: str, better: str | None, at_most: float | None, words: str,
                                           tone: str) -> None:
    said = verdict(contrast(found, better, at_most), [2, 2, 3], [1, 1, 2])

    assert (said.words.replace("\N{NO-BREAK SPACE}", " "), said.tone) == (words, tone)
    assert said.figures == "2 → 1"


@pytest.mark.parametrize(("before", "after", "words"), [
    ([3, 4], [1, 2], "lower in all 2 repeats"),
    ([1, 2, 2], [3, 4, 4], "higher in all 3 repeats"),
    ([1, 3], [2, 4], "too noisy to say"), ([3], [1], "lower in one repeat"), ([5, 5], [5, 5], "the same"),
    ([3, None], [1, 1], "lower in one repeat")])
def test_with_too_few_blocks_it_is_said_what_all_repeats_have_in_common_and_nothing_is_good_or_bad(
        before: list[float | None], after: list[float | None], words: str) -> None:
    assert verdict(contrast(None), before, after)[::2] == (words, "")


# Charts

def test_all_panels_of_a_chart_have_the_same_axes(read: RawRun, summed: Summary) -> None:
    drawn = charts.drawn(read, summed.cells)

    for panels in (charts.idle_panels(drawn), charts.opened_panels(drawn)):
        assert len({(panel.x, panel.y) for panel in panels}) == 1
        assert all(panel.y.counts for panel in panels), "connections"
    assert [len(panel.lines) for panel in charts.idle_panels(drawn)] == [3 * 3, 5 * 3]
    assert [len(panel.lines) for panel in charts.opened_panels(drawn)] == [3 * 2] * 8


def test_one_repeat_of_each_cell_is_bold_and_hues_stand_for_patterns(read: RawRun, summed: Summary) -> None:
    local, _ = charts.idle_panels(charts.drawn(read, summed.cells))

    assert [line.hue for line in local.lines if line.bold] == ["problematic", "improved", "hook"]
    assert all(line.bold for line in local.lines[-3:])


@pytest.mark.parametrize("again", ["warm", "control"])
def test_what_runs_a_second_time_is_not_in_the_chart_of_idle_connections(
        again: str, read: RawRun, summed: Summary) -> None:
    first, *others = charts.drawn(read, summed.cells)
    second = first._replace(cell=first.cell.model_copy(update={again: True}))

    shown = charts.idle_panels([second, *others])
    assert sum(len(panel.lines) for panel in shown) == 3 * len(others)


AXIS = plot.Axis(0, 10, "s")


@pytest.mark.parametrize("highest", [-0.5, 0.0])
def test_an_axis_has_a_length_where_all_was_seen_before_its_beginning(highest: float) -> None:
    axis = plot.from_zero(highest, "s")
    assert axis.high > axis.low == 0
    assert axis.ticks[0].text == "0"


def test_a_value_holds_until_the_next_one() -> None:
    assert plot.steps([(0, 0), (5, 10), (10, 10)], AXIS, AXIS) == "M0 1000H500V0H1000"
    assert plot.under([(0, 10), (10, 10)], [(0, 0), (10, 0)], AXIS, AXIS) == "M0 0H1000L1000 1000 1000 1000 0 1000Z"


def test_a_line_is_interrupted_where_there_is_no_value() -> None:
    assert plot.straight([(0, 0), (5, 5), (6, None), (10, 10)], AXIS, AXIS) == "M0 1000L500 500M1000 0"


@pytest.mark.parametrize(("axis", "said"), [
    (plot.Axis(0, 53, ""), ["0", "10", "20", "30", "40", "50"]),
    (plot.Axis(0, 0.9, ""), ["0", "0.2", "0.4", "0.6", "0.8"]),
    (plot.Axis(0, 1, ""), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    (plot.Axis(0, 1.1, "", counts=True), ["0", "1"]), (plot.Axis(0, 2.2, "", counts=True), ["0", "1", "2"]),
    (plot.Axis(0, 15, "", counts=True), ["0", "5", "10", "15"]),
    (plot.Axis(0.02, 30, "", log=True), ["0.1", "1", "10"]),
    (plot.Axis(0.05, 0.3, "", log=True), ["0.05", "0.1", "0.2"])])
def test_an_axis_has_round_ticks(axis: plot.Axis, said: list[str]) -> None:
    assert [tick.text for tick in axis.ticks] == said
    assert all(0 <= tick.at <= 100 for tick in axis.ticks)


def test_every_connection_has_its_stroke(read: RawRun, summed: Summary) -> None:
    picture = lifelines(read, summed)

    assert picture is not None
    assert picture.executor == "CeleryExecutor"
    assert [(strip.pattern, strip.opened, len(strip.rows)) for strip in picture.strips] == [
        ("problematic", "60", 4), ("improved", "20", 4), ("worker", "4", 4)]
    for strip in picture.strips:
        assert str(sum(row.path.count("M") for row in strip.rows)) == strip.opened
    assert [strip.kept for strip in picture.strips] == [0, 0, 4]


@pytest.mark.parametrize(("step", "is_drawn"), [(0.4, True), (3600.0, False), (-3600.0, False)])
def test_of_a_dag_run_in_which_the_clock_was_set_only_the_tasks_own_durations_are_drawn(
        step: float, is_drawn: bool, tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path, clock_step=step)
    row = builders.row(11, started=1002.5, ended=1005.5)
    builders.rewrite(folder / records.TASKS_FILE, [builders.task(one, 1001, 1002, 1006, row=row) for one in (0, 1)])
    found, summary = metrics.load(folder), summarise(folder)
    (drawn,) = charts.drawn(found, summary.cells)
    pictures = (drawn.timelines, lifelines(found, summary), task_time.task_times(found, summary.cells))
    assert [bool(picture) for picture in pictures] == [is_drawn] * 3
    by_the_clock = ["a task, start to end, s", "idle connection-seconds", "makespan, s"] * is_drawn
    assert [one.title for one in distributions.distributions(found, summary.cells)] == [
        "first result of a task, s", "later calls, s", *by_the_clock]


def test_no_two_strokes_of_a_row_lie_on_each_other(read: RawRun, summed: Summary) -> None:
    picture = lifelines(read, summed)

    assert picture is not None
    for strip in picture.strips:
        strokes = sorted((float(y), float(start), float(end)) for row in strip.rows
                         for start, y, end in re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)", row.path))
        assert all(y != below or end <= start for (y, _, end), (below, start, _) in pairwise(strokes))


def test_the_time_of_a_task_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    row = builders.row(1, started=1003.0, ended=1006.5, first_result_seconds=0.25, call_seconds=[0.125, 0.125])
    folder = builders.write(tmp_path, builders.run(builders.plan(builders.cell(tasks=1))),
                            dag_runs=[builders.dag_run()], tasks=[builders.task(0, 1000, 1001, 1007, row=row)])
    raw = metrics.load(folder)
    [found] = task_time.task_times(raw, metrics.summary_of(raw).cells)

    assert {part.name: part.seconds for part in found.parts} == {
        "start": 2, "first": 0.25, "later": 0.25, "hold": 2, "own": 1, "end": 0.5}
    assert (found.seconds, found.database) == (6, 0.5 / 6)


def test_every_raw_point_is_drawn(read: RawRun, summed: Summary) -> None:
    found = {one.title: one for one in distributions.distributions(read, summed.cells)}

    assert [row.points for row in found["first result of a task, s"].rows] == [20 * 3] * 8
    assert [row.path.count("M") for row in found["later calls, s"].rows] == [20 * 3 * 2] * 8
    assert [row.points for row in found["makespan, s"].rows] == [3] * 8


def test_advice_has_its_effect_or_says_how_to_try_it(tmp_path: Path) -> None:
    found = {one.advice: one for one in advice(opened(tmp_path, remedied(problematic=300, improved=100, worker=16)))}

    effect = found["Cache one driver per process"].effect
    assert effect is not None
    assert effect.replace("\N{NO-BREAK SPACE}", " ").startswith("300 → 100 connections opened, 67 % fewer")
    assert (found["Share one driver for each worker process"].effect or "").startswith("300 → 16 ")
    assert found["Move to CeleryExecutor: its processes live on"].effect is None
    assert "not tried in this run: rig compare --executors local,celery" in re.sub(r"\s+", " ", page(tmp_path).text)


def test_what_a_run_means_for_a_deployment(read: RawRun, summed: Summary, tmp_path: Path) -> None:
    found = deployment(summed)

    assert found is not None
    assert found.command == "rig plan --workers 1 --processes 4 --tasks-per-hour 1000 --calls 3 --hold 2"
    assert [one.way for one in found.forecasts] == ["problematic", "improved", "process", "shared"]
    [opened] = [row for row in found.beside if (row.executor, row.pattern, row.metric) == (
        "CeleryExecutor", "problematic", "connections_opened")]
    assert (opened.law, opened.measured) == (60, 60)
    assert deployment(summarise(nothing(tmp_path))) is None


def test_a_cell_that_runs_again_to_show_the_noise_is_in_no_headline(tmp_path: Path) -> None:
    again = builders.cell("problematic", "CeleryExecutor", tasks=100).model_copy(update={"control": True})
    summary = opened(tmp_path, {again: 7, **remedied(problematic=300, improved=100)})

    assert headline.headline(summary).startswith("100 tasks opened 300 connections; ")
    assert headline.figures(summary)[0].value == "300"
    assert "problematic (control)" in map(phrases.variant, summary.cells)


def test_what_idle_connections_cost_is_left_out_where_it_is_not_known(tmp_path: Path) -> None:
    assert [one.beside for one in headline.figures(opened(tmp_path, remedied(problematic=300)))] == [""]


def test_a_cell_without_samples_has_an_empty_panel(tmp_path: Path) -> None:
    assert page(unsampled(tmp_path)).text.count("Nothing was sampled.") == 2


def test_a_pattern_that_is_not_known_has_the_other_hue() -> None:
    assert phrases.hue(Side(executor="LocalExecutor", pattern="new one", relay="none", driver="sync")) == "other"


# The terminal

def shown(summary: Summary) -> str:
    console = Console(width=80, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(report.table(summary))
    return capture.get()


def test_no_two_cells_have_the_same_name_in_the_terminal(tmp_path: Path) -> None:
    cells = [builders.cell(control=control, preload=preload, warm=warm)
             for control, preload, warm in product((False, True), repeat=3)]
    made = report.table(summarise(builders.write(tmp_path, builders.run(builders.plan(*cells)))))
    names = [str(name) for name in made.columns[1].cells]
    assert len(set(names)) == len(names) == 8


def test_the_table_fits_a_terminal(summed: Summary) -> None:
    text = shown(summed)

    assert "…" not in text
    assert re.search(r"Local +problematic +60 .* 60/60 +0", text)
    assert re.search(r"Celery +worker/process +4 ", text)


@pytest.mark.parametrize(("more", "said"), [
    ({}, "connections as the server saw them; makespan"),
    ({BEHIND_A_TAP: True}, "connections opened as the tap counted them, the others as the server saw them; makespan")])
def test_the_table_says_who_counted(more: dict[str, bool], said: str, tmp_path: Path) -> None:
    folder = builders.write(tmp_path, builders.run(builders.plan(), environment={**builders.ENVIRONMENT, **more}))
    assert said in " ".join(shown(summarise(folder)).split())


def test_the_table_says_at_least_and_not_measured(tmp_path: Path) -> None:
    assert "≥ 3" in shown(summarise(bound(tmp_path / "bound")))
    assert re.search(r"Local +problematic +– ", shown(summarise(not_run(tmp_path / "not run"))))  # noqa: RUF001


def test_a_name_in_the_table_is_not_markup(tmp_path: Path) -> None:
    folder = builders.write(tmp_path, builders.run(builders.plan(builders.cell("[red]x")), run="[bold]y"))

    assert "[red]x" in shown(summarise(folder))
    assert "[bold]y" in shown(summarise(folder))
