"""``make env``: the secrets that the compose files require are written once, and nothing that is there is changed."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from dotenv import dotenv_values

from rig import env_file
from rig.errors import BadInput
from rig.settings import PROJECT

ALL = {"AIRFLOW_UID", *env_file.SECRETS}


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_with_everything_is_made_and_only_its_owner_may_read_it(dotenv: Path) -> None:
    assert set(env_file.complete(dotenv)) == ALL
    found = dotenv_values(dotenv)
    assert set(found) == ALL
    assert all(found.values())
    assert mode(dotenv) == 0o600
    Fernet(str(found["AIRFLOW__CORE__FERNET_KEY"]))
    assert len(str(found["AIRFLOW__API_AUTH__JWT_SECRET"])) >= 64, "Airflow warns of a shorter one"


def test_containers_do_not_run_as_root(dotenv: Path) -> None:
    env_file.complete(dotenv)
    assert dotenv_values(dotenv)["AIRFLOW_UID"] == str(os.getuid() or 50000)


def test_no_two_files_have_a_secret_in_common(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "two")]
    for file in files:
        env_file.complete(file)
    one, two = map(dotenv_values, files)
    assert all(one[name] != two[name] for name in env_file.SECRETS)


def test_a_whole_file_is_left_as_it_is(dotenv: Path) -> None:
    env_file.complete(dotenv)
    before = dotenv.read_bytes()
    assert env_file.complete(dotenv) == []
    assert dotenv.read_bytes() == before


def test_a_half_file_keeps_every_line_and_gets_what_is_missing(dotenv: Path) -> None:
    mine = "# mine\nAIRFLOW_UID=1234\nNEO4J_PASSWORD='s3cret # not a comment'\nFLOWER_PASSWORD="
    dotenv.write_text(mine)
    dotenv.chmod(0o644)
    assert set(env_file.complete(dotenv)) == ALL - {"AIRFLOW_UID", "NEO4J_PASSWORD"}
    assert dotenv.read_text().startswith(mine)
    assert mode(dotenv) == 0o600
    found = dotenv_values(dotenv)
    assert (found["AIRFLOW_UID"], found["NEO4J_PASSWORD"]) == ("1234", "s3cret # not a comment")
    assert found["FLOWER_PASSWORD"]


def test_the_example_becomes_a_whole_file(dotenv: Path) -> None:
    dotenv.write_text((PROJECT / ".env.example").read_text())
    assert set(env_file.complete(dotenv)) == set(env_file.SECRETS)


def test_the_password_of_a_server_that_is_there_is_not_made_up(dotenv: Path) -> None:
    dotenv.write_text("NEO4J_URI=neo4j+s://x.databases.neo4j.io\n")
    with pytest.raises(BadInput, match=r"NEO4J_URI is set in \.env and NEO4J_PASSWORD is not"):
        env_file.complete(dotenv)
    assert dotenv.read_text() == "NEO4J_URI=neo4j+s://x.databases.neo4j.io\n"


def test_a_file_that_is_no_text_is_one_line(dotenv: Path) -> None:
    dotenv.write_bytes(b"NEO4J_PASSWORD=\xff\n")
    with pytest.raises(BadInput, match=r"cannot be read and written.*UTF-8"):
        env_file.complete(dotenv)


def test_make_env_needs_nothing_but_python(tmp_path: Path) -> None:
    """In a copy of its own, with no packages at all."""
    for name in ("__init__.py", "env_file.py", "errors.py", "whole_file.py"):
        target = tmp_path / "rig" / name
        target.parent.mkdir(exist_ok=True)
        target.write_text((PROJECT / "rig" / name).read_text())
    (tmp_path / "Makefile").write_text((PROJECT / "Makefile").read_text())
    done = subprocess.run(["make", "env", f"PYTHON={sys.executable} -S"], cwd=tmp_path, capture_output=True,
                          text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    assert done.stdout == f".env has {', '.join(['AIRFLOW_UID', *env_file.SECRETS])} now.\n"
    assert set(dotenv_values(tmp_path / ".env")) == ALL
