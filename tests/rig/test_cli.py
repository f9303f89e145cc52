"""The command line says in one line what was typed wrong, and its help can be read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rig.settings import ENV_FILE_VARIABLE

COMMANDS = ("up", "down", "status", "switch", "compare", "compare-load", "load", "dag", "logs", "report", "runs",
            "doctor", "plan", "diff", "export", "watch")


RIG = str(Path(sys.executable).parent / "rig")


def rig(folder: Path, *arguments: str, by: tuple[str, ...] = (RIG,)) -> "subprocess.CompletedProcess[str]":
    """Run the installed command, as a user does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NEO4J_", "RIG_"))}
    environment[ENV_FILE_VARIABLE] = os.devnull
    return subprocess.run([*by, *arguments], env={**environment, "RIG_DATA_DIR": str(folder), "COLUMNS": "100"},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("arguments", "words"), [
    ("compare --profile nope", ("no profile 'nope'", "quick, default, seed, full")),
    ("compare --executors kubernetes", ("no executor 'kubernetes'", "local,celery")),
    ("compare --executors ,", ("no executor is named", "local,celery")),
    ("compare --patterns worst", ("no pattern 'worst'", "problematic,improved")),
    ("compare --preload maybe", ("no preload setting 'maybe'", "off,on")),
    ("compare --preload ,", ("no preload setting is named", "off,on")),
    ("compare --airflow-url http://127.0.0.1:1 --token t --executors celery --relays none --preload on --patterns hook",
     ("what it preloads cannot be switched", "leave --preload out")),
    ("compare --tasks 0", ("--tasks is 0", "from 1 to 10000")),
    ("compare --tasks 10001", ("--tasks is 10001", "from 1 to 10000")),
    ("compare --tasks many", ("'--tasks'", "integer")),
    ("compare --calls 0", ("--calls is 0", "from 1 to 1000")),
    ("compare --hold -1", ("--hold is -1", "from 0 to 3600")),
    ("compare --hold nan", ("--hold is nan", "from 0 to 3600")),
    ("compare --repeats 101", ("--repeats is 101", "from 1 to 100")),
    ("compare --resume nowhere", ("no run 'nowhere'", "no runs yet")),
    ("compare --tap --stack compose", ("--tap cannot be used with --stack compose", "leave --stack compose out")),
    ("compare --tap --airflow-url http://af.example --executors local",
     ("--tap cannot be used with --airflow-url", "leave --tap out")),
    ("compare --load", ("`rig compare --load` is called `rig compare-load` now",)),
    ("compare --load --rate 0.1 --resume RUN", ("`rig compare --load` is called `rig compare-load` now",)),
    ("compare-load --executors kubernetes", ("no executor 'kubernetes'", "local,celery")),
    ("compare-load --patterns inherited", ("inherited breaks", "leave inherited out")),
    ("compare-load --arrivals sometimes", ("--arrivals is 'sometimes'", "even, poisson")),
    ("compare-load --repeats 0", ("--repeats is 0", "from 1 to 100")),
    ("compare-load --saturated-time 1", ("--saturated-time is 1", "from 5 to 3600")),
    ("compare-load --tasks 0", ("--tasks is 0", "from 1 to 10000")),
    ("compare-load --hold nan", ("--hold is nan", "from 0 to 3600")),
    ("compare-load --rate 0", ("'--rate'", "0.001")),
    ("compare-load --relays none", ("No such option: --relays", "`rig compare-load --help`")),
    ("compare-load --resume nowhere", ("no run 'nowhere'", "no runs yet")),
    ("compare --bogus", ("No such option: --bogus", "`rig compare --help`")),
    ("up --executor sequential", ("no executor 'sequential'", "local,celery")),
    ("up --slots 0", ("'--slots'", "greater than or equal to 1")),
    ("switch sequential", ("no executor 'sequential'", "local,celery")),
    ("switch", ("Missing argument 'executor'", "`rig switch --help`")),
    ("dag neo4j_stress_test --conf [", ("--conf is not JSON",)),
    ("dag neo4j_stress_test --conf [1]", ("--conf is not a JSON object",)),
    ("logs neo4j --lines 0", ("'--lines'", "greater than or equal to 1")),
    ("report nowhere", ("no run 'nowhere'", "no runs yet")),
    ("diff nowhere nowhere", ("no run 'nowhere'", "no runs yet")),
    ("diff nowhere", ("Missing argument 'RUN'", "`rig diff --help`")),
    ("watch", ("no Neo4j is named", "give --uri, or set NEO4J_URI")),
    ("watch --uri bolt://neo4j:secret@db", ("--uri: the user and the password go into", "name one server")),
    ("watch --uri http://db", ("--uri: expected <scheme>://<host>", "name one server")),
    ("watch --uri bolt://127.0.0.1:1", ("no password is set", "set NEO4J_PASSWORD")),
    ("watch --every 0", ("'--every'", "0.1")),
    ("export nowhere --csv", ("no run 'nowhere'", "no runs yet")),
    ("plan --processes 0", ("--processes is 0", "from 1 to 1000")),
    ("plan --processes few", ("'--processes'", "integer")),
    ("plan --hold -1", ("--hold is -1", "from 0 to 3600")),
    ("plan --against nowhere", ("no run 'nowhere'", "no runs yet")),
    ("bogus", ("No such command 'bogus'", "`rig --help`")),
])
def test_what_was_typed_wrong_is_said_in_one_line(tmp_path: Path, arguments: str, words: tuple[str, ...]) -> None:
    result = rig(tmp_path, *arguments.split())
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("rig: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("arguments", [
    "plan --processes 0", "plan --against nowhere", "plan", "compare --tasks 0", "compare-load --tasks 0",
    "compare-load --resume nowhere", "load --executor kubernetes"])
def test_arguments_are_judged_before_what_takes_long_to_import(tmp_path: Path, arguments: str) -> None:
    said = rig(tmp_path, *arguments.split(), by=(sys.executable, "-X", "importtime", RIG)).stderr
    imported = {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}
    assert "rig.cli" in imported
    assert not imported & {"scipy", "rig.metrics", "rig.load.run", "rig.compare"}


def test_what_was_typed_wrong_starts_nothing_and_writes_nothing(tmp_path: Path) -> None:
    rig(tmp_path, "compare", "--tasks", "0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", ["switch local --relay worker", "compare --resume nowhere --relays none,worker"])
def test_the_earlier_name_of_a_relay_is_accepted_with_one_line_that_says_so(tmp_path: Path, arguments: str) -> None:
    first, second = rig(tmp_path, *arguments.split()).stderr.splitlines()
    assert first == "The relay worker is called shared now."
    assert "no stack is running" in second or "no run 'nowhere'" in second


def test_the_help_lists_every_command_with_what_it_does(tmp_path: Path) -> None:
    result = rig(tmp_path, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.strip("│ ").split() for line in result.stdout.splitlines()]
    for command in COMMANDS:
        assert any(line[:1] == [command] and len(line) > 3 for line in lines), command


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_can_be_read(tmp_path: Path, command: str) -> None:
    result = rig(tmp_path, command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Usage: rig {command}" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_the_help_of_compare_explains_profiles_options_and_ctrl_c(tmp_path: Path) -> None:
    shown = " ".join(rig(tmp_path, "compare", "--help").stdout.replace("│", " ").split())
    for word in ("quick:", "default:", "seed:", "full:", "--executors", "--patterns", "--preload", "--tasks", "--calls",
                 "--hold", "--repeats", "--resume", "Ctrl-C"):
        assert word in shown, word


def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    result = rig(tmp_path)
    assert result.returncode == 2
    assert "Usage: rig" in result.stdout + result.stderr


def test_the_help_shows_what_an_option_is_without_it() -> None:
    """Rich takes words in brackets for its own markup, and leaves them out, unless they are escaped."""
    said = " ".join(rig(Path(), "load", "--help").stdout.replace("│", " ").split())
    assert "DAG runs per second. [default: 0.2]" in said


def test_the_users_env_is_kept_out_of_the_tests() -> None:
    """It may name the user's own Neo4j: then a test would write to it."""
    assert os.environ[ENV_FILE_VARIABLE] == os.devnull
