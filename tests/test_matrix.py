"""``make matrix``: its rows vary one thing each, and its page has a result for each row."""

from dataclasses import astuple
from pathlib import Path

import pytest

from tests import matrix
from tests.matrix import (
    BEGIN,
    DEFAULT,
    END,
    NOT_TRIED,
    OLDEST,
    PAGE,
    VERSIONS,
    combinations,
    main,
    pins,
    requirements,
    row,
    write,
)
from worker_init.upstream import TESTED


def test_each_row_but_the_corner_varies_one_thing() -> None:
    for combination in combinations():
        varied = sum(one != other for one, other in zip(astuple(combination), astuple(DEFAULT), strict=True))
        assert combination == OLDEST or varied <= 1, combination


def test_the_locked_versions_are_replaced_by_those_of_a_row_and_by_nothing_else() -> None:
    driver = next(each for each in combinations() if each.driver)
    assert {*pins(driver)} ^ {*pins(DEFAULT)} == {f"neo4j=={driver.driver}", f"neo4j=={VERSIONS['neo4j']}"}
    without = next(each for each in combinations() if not each.uvloop and each != OLDEST)
    assert {line.partition("==")[0] for line in {*pins(without)} ^ {*pins(DEFAULT)}} == {"uvloop"}


def test_another_airflow_is_resolved_with_its_own_dependencies() -> None:
    options, wanted = requirements(OLDEST)
    assert options == []
    assert {*wanted} >= {f"apache-airflow[celery]=={OLDEST.airflow}", f"celery=={OLDEST.celery}",
                         f"neo4j=={OLDEST.driver}"}


def test_the_page_has_a_result_for_each_row() -> None:
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    for combination in combinations():
        beginning = row(combination, "").removesuffix("|").rstrip()
        assert any(line.startswith(beginning) and line != beginning + " |" for line in table), beginning


def test_a_row_keeps_its_result_where_it_cannot_be_installed_this_time(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "versions.md"
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    monkeypatch.setattr(matrix, "PAGE", page)
    never, untried = "not installed: uv: no such version", [*combinations()][2]
    write({DEFAULT: "7 passed", OLDEST: never})
    assert row(untried, NOT_TRIED) in page.read_text(encoding="utf-8")
    write({DEFAULT: never, untried: never})
    assert row(untried, never) in page.read_text(encoding="utf-8")
    assert row(DEFAULT, "7 passed") in page.read_text(encoding="utf-8")
    assert row(OLDEST, never) in page.read_text(encoding="utf-8")
    write({DEFAULT: "failed: 1 failed"})
    assert row(DEFAULT, "failed: 1 failed") in page.read_text(encoding="utf-8")


def test_a_driver_that_is_tried_is_not_called_untested() -> None:
    assert {*TESTED} >= {each.driver or VERSIONS["neo4j"] for each in combinations()}


@pytest.mark.parametrize(("argument", "said"), [("3.9.9", "no row has '3.9.9' in it"), ("3.12", "uv is not installed")])
def test_what_cannot_be_tried_is_said_in_one_line(
        argument: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", ["matrix", "--only", argument])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
