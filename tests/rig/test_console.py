"""What is not ours is printed as it is: rich would take brackets for markup, and drop what is in them."""

import os
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from rig import console, progress_view, stack_status
from rig.stack import lock
from rig.stack.interface import ServiceStatus
from tests.rig.plain_settings import PlainSettings
from tests.rig.test_drivers import stack

FOREIGN = "/home/[work]/results [/red] bolt://[fe80::1]:7687 manual__[bold]1[/bold] :key: \\[x]"


@pytest.mark.parametrize("where", [console.console, console.errors])
def test_text_is_printed_as_it_is_also_in_a_table(where: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(FOREIGN, box=None)
    table.add_row(FOREIGN)
    monkeypatch.setattr(where, "_width", 250)
    with where.capture() as captured:
        where.print(FOREIGN, soft_wrap=True)
        where.print(FOREIGN, style="red", soft_wrap=True)
        where.print(table)
    assert captured.get().count(FOREIGN) == 4


def test_status_shows_every_name_and_address_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PlainSettings(data_dir=tmp_path, airflow_username="[red]ann")
    state = stack(tmp_path, neo4j_uri="bolt://[fe80::1]:7687", neo4j_username="[b]neo4j", own_neo4j=False)
    services = [ServiceStatus(name=name, pid=1, url="http://[::1]:8080", healthy=False, problem=f"its log: {FOREIGN}")
                for name in ("airflow-apiserver", "flower")]
    monkeypatch.setattr(console.console, "_width", 250)
    with console.console.capture() as captured:
        stack_status.show(config, state, services)
    shown = captured.get()
    assert shown.count(f"its log: {FOREIGN}") == 2
    assert "Airflow: http://[::1]:8080  user [red]ann, password " in shown
    assert "Neo4j:   bolt://[fe80::1]:7687  user [b]neo4j\n" in shown


@pytest.mark.parametrize("preload", [False, True])
def test_status_says_whether_the_stack_preloads(preload: bool, tmp_path: Path) -> None:
    services = [ServiceStatus(name="airflow-apiserver", pid=1, url="http://x", healthy=True, problem=None)]
    with console.console.capture() as captured:
        stack_status.show(PlainSettings(data_dir=tmp_path), stack(tmp_path, preload=preload), services)
    assert ("with modules preloaded" in captured.get()) is preload


def test_status_says_which_rig_uses_the_stack(tmp_path: Path) -> None:
    """A service that a comparison stops would look as if it had died."""
    services = [ServiceStatus(name="airflow-apiserver", pid=1, url="http://x", healthy=True, problem=None)]

    def shown() -> str:
        with console.console.capture() as captured:
            stack_status.show(PlainSettings(data_dir=tmp_path), stack(tmp_path), services)
        return captured.get()
    with lock.hold(tmp_path, "rig compare"):
        assert f"`rig compare` (pid {os.getpid()}) is using this stack" in shown()
    assert "is using this stack" not in shown()


def test_status_shows_a_stack_that_is_not_whole_yet(tmp_path: Path) -> None:
    """Airflow is started after the databases. If the rig is killed in between, the stack stays like this."""
    services = [ServiceStatus(name="postgres", pid=1, url="postgresql://x", healthy=True, problem=None)]
    with console.console.capture() as captured:
        stack_status.show(PlainSettings(data_dir=tmp_path), stack(tmp_path), services)
    shown = captured.get()
    assert "postgresql://x" in shown
    assert "Neo4j:" in shown
    assert "Airflow:" not in shown


def test_the_live_view_shows_a_detail_as_it_is() -> None:
    with console.console.capture() as captured, progress_view.ProgressView(console.console, 4) as view:
        view.step("neo4j", "starting", "in [work]")
        view.note(FOREIGN)
    assert "neo4j: starting in [work]" in captured.get()
    assert FOREIGN in captured.get()
