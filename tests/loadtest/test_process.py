"""One process of a load test: what its users do where Airflow is not there."""

import json
import socket
import subprocess
import sys

import pytest

from rig.settings import PROJECT


@pytest.fixture
def nobodys_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_user_of_the_closed_model_takes_a_breath_where_the_api_is_gone(nobodys_port: int) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "tests.loadtest.user_without_api", f"http://127.0.0.1:{nobodys_port}"],
        cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert json.loads(said) == {"states": ["not started"], "naps": [0.5]}
