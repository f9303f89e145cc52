"""How long a token of Airflow's is used. What the API does on a real Airflow, tests/e2e says."""

import base64
import json
from typing import Any

import pytest

from rig.airflow_api import TOKEN_LIFE, life_of


def token(claims: Any) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{middle}.signature"


def test_a_token_lives_as_long_as_it_says_itself() -> None:
    assert life_of(token({"iat": 1000, "exp": 1060})) == 60


def test_no_longer_than_an_hour_whatever_it_says() -> None:
    assert life_of(token({"iat": 0, "exp": 86_400})) == TOKEN_LIFE


@pytest.mark.parametrize("opaque", [
    "", "opaque", "a.b.c", "a.%%%.c", token([]), token({"exp": 1}), token({"exp": "x", "iat": 0})])
def test_one_that_says_nothing_is_renewed_after_an_hour(opaque: str) -> None:
    assert life_of(opaque) == TOKEN_LIFE
