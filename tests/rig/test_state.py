"""The state file: another rig finds the stack by it, nobody else can read it, and no text shows its passwords."""

import json
import os
import signal
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from rig.errors import BadInput
from rig.stack import processes, state
from rig.stack.state import Secrets, ServiceState, StackState
from tests.rig.full_disk import full_disk


@pytest.fixture
def made() -> StackState:
    service = ServiceState(process=processes.this_process(), url="bolt://127.0.0.1:7687", stop_signal=signal.SIGINT,
                           stop_timeout=40)
    return StackState(executor="CeleryExecutor", slots=16, ports={"neo4j": 7687}, neo4j_uri="bolt://127.0.0.1:7687",
                      neo4j_username="neo4j", neo4j_database="neo4j", own_neo4j=True,
                      temporary=state.temporary_folder(),
                      services={"neo4j": service}, keeper=processes.this_process(),
                      secrets=state.random_secrets(airflow=None, neo4j=None))


def revealed(secrets: Secrets) -> dict[str, str]:
    return {name: getattr(secrets, name).get_secret_value() for name in Secrets.model_fields}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_saved_is_loaded_again_passwords_and_all(made: StackState, tmp_path: Path) -> None:
    state.save(tmp_path, made)
    assert state.load(tmp_path) == made
    loaded = state.load(tmp_path)
    assert loaded
    assert revealed(loaded.secrets) == revealed(made.secrets)


def test_the_state_of_a_rig_whose_driver_host_had_no_password_of_its_own_is_read(
        made: StackState, tmp_path: Path) -> None:
    state.save(tmp_path, made)
    earlier = json.loads((tmp_path / state.STATE_FILE).read_text())
    del earlier["secrets"]["driver_host"]
    (tmp_path / state.STATE_FILE).write_text(json.dumps(earlier))
    loaded = state.load(tmp_path)
    assert loaded
    assert loaded.secrets.redis == made.secrets.redis


def test_where_none_was_saved_there_is_none(tmp_path: Path) -> None:
    assert state.load(tmp_path) is None
    assert state.load(tmp_path / "nowhere") is None


def test_only_this_user_can_read_the_file_whatever_the_umask(made: StackState, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for _ in range(2):      # written again, it stays private
            state.save(tmp_path, made)
            assert mode(tmp_path / state.STATE_FILE) == 0o600
    finally:
        os.umask(before)


def test_it_is_written_whole_or_not_at_all(made: StackState, tmp_path: Path) -> None:
    state.save(tmp_path, made)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        state.save(tmp_path, made.model_copy(update={"slots": 3}))
    assert state.load(tmp_path) == made


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"executor": "LocalExecutor"}'])
def test_a_damaged_file_is_one_line_that_names_it_and_what_clears_it(damage: str, tmp_path: Path) -> None:
    (tmp_path / state.STATE_FILE).write_text(damage)
    with pytest.raises(BadInput) as caught:
        state.load(tmp_path)
    assert str(caught.value) == (f"{tmp_path / state.STATE_FILE} is not the state of a stack — "
                                 "`rig down` clears what it left")


def test_no_text_of_it_shows_a_password(made: StackState) -> None:
    texts = f"{made} {made!r} {made.secrets} {made.secrets!r} {made.model_dump()} {vars(made)}"
    assert not [name for name, value in revealed(made.secrets).items() if value in texts]


def test_every_secret_is_random_and_of_a_length_that_cannot_be_guessed() -> None:
    sets = [revealed(state.random_secrets(airflow=None, neo4j=None)) for _ in range(3)]
    values = [value for one in sets for value in one.values()]
    assert len(set(values)) == len(values)
    assert min(map(len, values)) >= 16


def test_a_password_that_the_user_has_set_is_taken() -> None:
    made = revealed(state.random_secrets(airflow=SecretStr("mine"), neo4j=SecretStr("and mine")))
    assert (made["airflow"], made["neo4j"]) == ("mine", "and mine")
