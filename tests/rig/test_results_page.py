"""The tables of the documentation are those of the summaries that are kept beside them."""

from pathlib import Path

import pytest

from benchmarks import results_page


@pytest.mark.parametrize("page", results_page.PAGES, ids=lambda path: path.name)
def test_a_page_has_the_tables_of_the_kept_summaries(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- results: " in text
    assert results_page.with_tables(text) == text


def test_a_folder_without_a_summary_is_refused_and_nothing_is_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(results_page, "PAGES", (page := tmp_path / "page.md",))
    monkeypatch.setattr(results_page, "FOLDER", tmp_path)
    page.write_text("before")
    (tmp_path / "summary.json").write_text('{"run":')
    assert results_page.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert page.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.md", "summary.json"]


def test_a_block_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="each block of results needs its end"):
        results_page.with_tables("<!-- results: cells-of-comparison -->\n\n## The rest of the page\n")
