"""Two runs side by side, figures for other programs, and the schema that is published for them."""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from rig.errors import BadInput
from rig.metrics import Summary, summarise
from rig.report import diff, export, schema
from tests.rig import builders, synthetic
from tests.rig.test_cli import rig

OLDER = Path(__file__).parent / "schema_1"


def opened(folder: Path, counts: Sequence[int], **changes: Any) -> Summary:
    """Return the summary of a run of one cell whose repeats opened so many connections."""
    planned = builders.plan(*[builders.cell()] * len(counts))
    known = {"run": folder.name, "repeats": len(counts)}
    return summarise(builders.write(folder, builders.run(planned, **known | changes), dag_runs=[
        builders.dag_run(index, opened=count) for index, count in enumerate(counts)]))


def words(found: diff.Diff, metric: str) -> str:
    [cell] = found.cells
    return next(change.words for change in cell.changes if change.metric == metric)


@pytest.mark.parametrize(("before", "after", "said"), [
    ([300, 300], [300, 300], "the same"), ([300, 300], [100, 100], "lower"), ([100] * 3, [300] * 3, "higher"),
    ([300], [100], "one repeat: too few to say"), ([100, 130], [110, 150], "too noisy to say"),
    ([100, 101, 102, 101], [200, 202, 201, 202], "higher"), ([0, 1], [0, 2], "too noisy to say"),
    ([1000, 1001, 1002, 1003] * 2, [1001, 1002, 1003, 1000] * 2, "no difference larger than")])
def test_a_count_that_differs_is_a_difference_and_noise_is_none(tmp_path: Path, before: list[int], after: list[int],
                                                                said: str) -> None:
    found = diff.diff(opened(tmp_path / "a", before), opened(tmp_path / "b", after))

    assert words(found, "connections_opened").startswith(said)
    assert bool(found.clear) == (said in {"lower", "higher"})


def test_a_gauge_that_was_the_same_twice_may_be_so_by_chance() -> None:
    assert diff.verdict([31, 31], [32, 32], 0.95, alike_needed=3) == "too noisy to say"
    assert diff.verdict([0, 0, 0], [16, 16, 16], 0.95, alike_needed=3) == "higher"


@pytest.mark.parametrize("repeats", [3, 6])
def test_runs_of_the_same_thing_rarely_differ(repeats: int) -> None:
    draw = random.Random(3)
    runs = [[draw.lognormvariate(3, 0.1) for _ in range(repeats)] for _ in range(2000)]
    wrong = sum(diff.verdict(one, other, 0.95, 3) in {"lower", "higher"}
                for one, other in zip(runs[::2], runs[1::2], strict=True))

    assert wrong <= 0.065 * 1000        # 95 %, and what chance adds to it in 1,000 pairs


def test_a_large_difference_is_found_beside_noise() -> None:
    draw = random.Random(3)
    one, other = ([draw.lognormvariate(mu, 0.1) for _ in range(6)] for mu in (3, 3.7))

    assert diff.verdict(one, other, 0.9995, 3) == "higher"


def test_what_else_differs_is_said(tmp_path: Path) -> None:
    newer = {**builders.ENVIRONMENT, "versions": {"neo4j": "2026.09.0", "python": "3.11.7"}}
    found = diff.diff(opened(tmp_path / "a", [3, 3]), opened(tmp_path / "b", [3, 3], environment=newer, slots=8))
    said = list(diff.remarks(found))

    assert "versions neo4j: 2026.08.1 → 2026.09.0" in said
    assert "slots: 16 → 8" in said
    assert not any("python" in line for line in said)


def test_cells_that_only_one_run_has_are_named(tmp_path: Path) -> None:
    both, one = builders.cell(), builders.cell("improved")
    runs = [summarise(builders.write(tmp_path / name, builders.run(builders.plan(*cells), run=name)))
            for name, cells in (("a", [both]), ("b", [both, one]))]

    assert list(diff.remarks(diff.diff(*runs))) == ["only in b: improved on LocalExecutor"]


def test_a_cell_and_its_control_are_two(tmp_path: Path) -> None:
    cells = [builders.cell(), builders.cell().model_copy(update={"control": True})]
    run = summarise(builders.write(tmp_path, builders.run(builders.plan(*cells))))

    assert [cell.label for cell in diff.diff(run, run).cells] == [
        "problematic on LocalExecutor", "problematic (control) on LocalExecutor"]


def test_runs_without_a_common_cell_cannot_be_compared(tmp_path: Path) -> None:
    cells = {"a": builders.cell(tasks=2), "b": builders.cell(tasks=3)}
    runs = [summarise(builders.write(tmp_path / name, builders.run(builders.plan(cell), run=name)))
            for name, cell in cells.items()]

    with pytest.raises(BadInput, match="a and b have no cell in common"):
        diff.diff(*runs)


def test_markdown_has_the_answer_first_and_every_figure_below(tmp_path: Path) -> None:
    text = diff.markdown(diff.diff(opened(tmp_path / "a", [300, 300]), opened(tmp_path / "b", [100, 100])))
    lines = text.split("\n")

    assert lines[0] == "**1 figure clearly differs between a and b.**"
    assert "| problematic on LocalExecutor | `connections_opened` | 300 | 100 | 0.333 | ✅ lower |" in lines
    assert text.count("| --- |") == 0
    assert all(line.count("|") == 7 for line in lines if line.startswith("|"))
    assert len([line for line in lines if "`" in line]) == 1 + len(diff.COMPARED)


def test_the_table_fits_a_terminal(tmp_path: Path) -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(diff.table(diff.diff(opened(tmp_path / "a", [300, 300]), opened(tmp_path / "b", [100, 100]))))

    assert "1 figure clearly differs between a and b." in capture.get()
    assert "…" not in capture.get()


def test_the_exit_code_says_whether_anything_differs(tmp_path: Path) -> None:
    opened(tmp_path / "a", [300, 300])
    opened(tmp_path / "b", [100, 100])
    same, other = rig(tmp_path, "diff", "a", "a"), rig(tmp_path, "diff", "a", "b", "--markdown")

    assert (same.returncode, other.returncode) == (0, 1), same.stderr + other.stderr
    assert "Nothing clearly differs between a and a." in same.stdout
    assert other.stdout.startswith("**1 figure clearly differs between a and b.**")
    assert same.stderr == other.stderr == ""


# Figures for other programs

def test_the_csv_has_a_line_for_each_dag_run_and_metric(tmp_path: Path) -> None:
    summary = summarise(synthetic.folder(tmp_path, synthetic.four(tasks=4), repeats=2, slots=2))
    lines = list(csv.DictReader(export.as_csv(summary).splitlines()))

    assert len(lines) == 8 * len(summary.dag_runs[0].figures)
    assert {line["value"] for line in lines if line["metric"] == "connections_opened"
            and line["pattern"] == "problematic"} == {"12"}
    assert all(line["value"] or line["missing"] for line in lines)


def test_no_two_cells_of_the_csv_look_the_same(tmp_path: Path) -> None:
    twins = builders.plan(*(builders.cell(control=control, preload=preload) for control in (False, True)
                            for preload in (False, True)))
    summary = summarise(builders.write(tmp_path, builders.run(twins)))
    lines = csv.DictReader(export.as_csv(summary).splitlines())
    of_cell = [name for name in export.COLUMNS if name not in {"run", "dag_run", "block", "value", "missing"}]
    seen = [tuple(line[name] for name in of_cell) for line in lines]
    assert len(set(seen)) == len(seen) == 4 * len(summary.dag_runs[0].figures)


def test_a_run_is_exported_as_json_and_as_csv(tmp_path: Path) -> None:
    builders.tiny(tmp_path / "r")
    as_json, as_csv = rig(tmp_path, "export", "r"), rig(tmp_path, "export", "r", "--csv")

    assert Summary.model_validate_json(as_json.stdout) == summarise(tmp_path / "r")
    assert as_csv.stdout == export.as_csv(summarise(tmp_path / "r"))


def test_the_published_schema_is_that_of_the_program() -> None:
    assert schema.FILE.read_text("utf-8") == schema.text(), "python -m rig.report.schema writes it"
    Draft202012Validator.check_schema(schema.schema())


def test_a_summary_keeps_the_published_schema(tmp_path: Path) -> None:
    check = Draft202012Validator(json.loads(schema.FILE.read_text("utf-8")))
    summary = json.loads(summarise(builders.tiny(tmp_path)).model_dump_json())

    assert list(check.iter_errors(summary)) == []
    assert list(check.iter_errors({**summary, "slots": "many"})) != []
    assert list(check.iter_errors({**summary, "unknown": 1})) != []


def test_a_run_of_schema_1_is_still_read() -> None:
    summary = summarise(OLDER)

    assert (summary.run, summary.cells[0].pattern) == ("older", "problematic")
    assert summary.cells[0].metrics["connections_opened"].median == 4
    assert summary.cells[0].metrics["makespan_seconds"].median == 10
