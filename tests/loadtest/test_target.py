"""The deployment that is tested, as its variables name it."""

import os
import subprocess
import sys

import pytest

from loadtest.target import of
from rig.errors import BadInput
from rig.load.run import LOCUSTFILE

NAMED = {"LOADTEST_EXECUTOR": "CeleryExecutor", "LOADTEST_RELAY": "process"}


def test_its_executor_and_its_relay_are_known_where_they_are_named() -> None:
    named, unnamed = of(NAMED), of({"LOADTEST_EXECUTOR": "", "LOADTEST_RELAY": ""})
    assert (named.executor, named.relay) == ("CeleryExecutor", "process")
    assert (unnamed.executor, unnamed.relay) == (None, None)


def test_at_another_address_neither_is_known() -> None:
    target = of(NAMED)
    assert target.at(f"{target.airflow}/") == target
    elsewhere = target.at("http://airflow:8080")
    assert (elsewhere.executor, elsewhere.relay) == (None, None)


@pytest.mark.parametrize(("variable", "known"), [
    ("LOADTEST_EXECUTOR", "LocalExecutor, CeleryExecutor"), ("LOADTEST_RELAY", "none, process, shared")])
def test_an_unknown_name_is_refused_with_the_known_ones(variable: str, known: str) -> None:
    with pytest.raises(BadInput) as refused:
        of({variable: "x"})
    assert str(refused.value) == f"{variable} is x — set it to one of {known}"


def test_to_locust_a_wrong_variable_is_one_line_and_exit_code_2() -> None:
    # A program of its own, since Locust changes the whole process.
    ended = subprocess.run([sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"], check=False,
                           env={**os.environ, "LOADTEST_RELAY": "x"}, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (2, "LOADTEST_RELAY is x — set it to one of none, process, shared\n")
