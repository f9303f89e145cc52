"""How long a token of Airflow's is used. What the API does on a real Airflow, tests/e2e says."""

import base64
import json
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from rig.airflow_api import TOKEN_LIFE, AirflowApi, ApiError, life_of


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


@pytest.mark.parametrize(("status", "is_answer", "words"), [
    (404, True, "refuses GET"), (409, True, "refuses GET"), (500, False, "cannot answer GET"),
    (503, False, "cannot answer GET")])
def test_a_failure_of_airflow_itself_is_no_answer(status: int, is_answer: bool, words: str) -> None:
    """No real Airflow can be made to fail when asked to."""
    api = AirflowApi.with_token("http://airflow", SecretStr("x"))
    api._client = httpx.Client(base_url=api.url, transport=httpx.MockTransport(
        lambda _: httpx.Response(status, json={"detail": "Database error"})))
    with api, pytest.raises(ApiError, match=rf"airflow {words} .*: {status} Database error") as raised:
        api.run_state("a_dag", "a_run")
    assert raised.value.is_answer == is_answer
