"""How all services are asked at once: in time, and with what died told from what is only not known for it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig import cli
from rig.errors import RigError, ServiceDied
from rig.stack import asking
from rig.stack.service import Check, reasons
from tests.rig.pretended_stack import PretendedStack
from tests.rig.test_drivers import stack as state_of


def serves() -> None:
    return None


def fails() -> str:
    return "it answers 500"


def raises() -> str:
    raise RigError("the engine does not answer")


def test_services_that_serve_have_no_problem() -> None:
    assert asking.problems({"redis": serves, "postgres": serves}) == {"redis": None, "postgres": None}


def test_one_that_never_answers_does_not_hold_up_the_others() -> None:
    for_ever = threading.Event()
    began = time.monotonic()
    found = asking.problems({"redis": lambda: str(for_ever.wait(60)), "postgres": serves, "neo4j": fails, "x": raises},
                            within=0.3)
    assert time.monotonic() - began < 5
    assert found == {"redis": "no answer within 0.3 s", "postgres": None, "neo4j": "it answers 500",
                     "x": "the engine does not answer"}
    for_ever.set()


def test_what_is_asked_through_a_service_that_does_not_serve_is_not_known() -> None:
    checks: dict[str, Check] = dict.fromkeys(
        ("neo4j", "airflow-apiserver", "airflow-dag-processor", "airflow-scheduler", "airflow-worker", "redis"), fails)
    found = asking.problems(checks, ended={"airflow-apiserver": "it has ended by itself"})
    assert found["airflow-apiserver"] == "it has ended by itself"
    assert found["airflow-scheduler"] == found["airflow-dag-processor"] == (
        "not known: airflow-apiserver does not serve")
    assert found["airflow-worker"] == "not known: redis does not serve"
    assert (found["neo4j"], found["redis"]) == ("it answers 500",) * 2


def test_the_first_in_a_chain_is_named() -> None:
    found = asking.problems({"airflow-apiserver": fails, "airflow-scheduler": fails},
                            ended={"postgres": "it has ended by itself"})
    assert found == {"postgres": "it has ended by itself", "airflow-apiserver": "not known: postgres does not serve",
                     "airflow-scheduler": "not known: postgres does not serve"}


def test_a_service_that_has_ended_itself_is_said_to_have_ended_whatever_else_has() -> None:
    found = asking.problems({}, ended={"postgres": "it has ended by itself", "airflow-scheduler": "it has ended"})
    assert found["airflow-scheduler"] == "it has ended"


# --- what a log says of the reason -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("lines", "said"), [
    (["INFO starting", "INFO started"], []), ([], []),
    (["ERROR old"] + ["INFO x"] * 60, []),      # long ago: it went on after that
    (["2026-11-27 10:52:38.292+0000 ERROR Failed to start Neo4j on localhost:7474.",
      "\tat org.neo4j.Main.main(Main.java:3)",
      "Caused by: io.netty.Errors: bind(..) failed: Address already in use", "2026-11-27 INFO Stopped."],
     ["2026-11-27 10:52:38.292+0000 ERROR Failed to start Neo4j on localhost:7474.",
      "Caused by: io.netty.Errors: bind(..) failed: Address already in use"]),
    (["Traceback (most recent call last):", '  File "x.py", line 1, in <module>',
      "sqlalchemy.exc.OperationalError: no"],
     ["sqlalchemy.exc.OperationalError: no"]),
    (["2026-11-27 UTC [1] FATAL:  lock file exists"], ["2026-11-27 UTC [1] FATAL:  lock file exists"]),
    ([f"ERROR {number}" for number in range(9)], [f"ERROR {number}" for number in range(4, 9)])])
def test_at_most_five_lines_of_a_log_are_shown_and_they_say_why(
        lines: list[str], said: list[str], tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("\n".join(lines), encoding="utf-8")
    assert reasons(log).splitlines() == said


def test_one_line_with_the_remedy_comes_before_those_of_the_log() -> None:
    died = ServiceDied("redis has ended by itself; its log: x.log", "`rig down`, then start again", "FATAL no memory")
    assert str(died).splitlines() == [
        "redis has ended by itself; its log: x.log — `rig down`, then start again", "FATAL no memory"]


@pytest.mark.parametrize(("lived", "left"), [(0.5, 10), (6, 7), (12, 3), (60, 3)])
def test_a_command_that_took_long_to_start_asks_for_less_time(lived: float, left: float) -> None:
    assert asking.time_left(lived) == left


@pytest.mark.parametrize(("command", "within"), [(cli.status, asking.LEAST), (cli.up, asking.WITHIN)])
def test_only_a_command_that_does_nothing_else_asks_for_less_time(
        command: Callable[[], None], within: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = PretendedStack(tmp_path, state_of(tmp_path))

    def named(*_: Any, **__: Any) -> PretendedStack:
        return stack
    monkeypatch.setenv("RIG_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(cli, "named", named)
    monkeypatch.setattr(cli, "_preflight", lambda *_: None)
    monkeypatch.setattr(asking, "lived", lambda: 60.0)
    command()
    assert stack.asked[-1] == ("status", within)
