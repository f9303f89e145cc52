"""Airflow's REST API, version 2: the dozen calls that the rig needs."""

import base64
import binascii
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Self

import httpx
from pydantic import SecretStr

from rig.errors import RigError

PAGE = 100      # Airflow's own limit on a page
TOKEN_LIFE = 3600.0     # seconds, if a token does not say; Airflow's default is a day
USED_OF_A_TOKEN = 0.9   # of a token's life: calls in progress must end within the rest
ACTIVE = ("queued", "running")


class ApiError(RigError):
    """Airflow's API refused a call or did not answer. ``status`` is the HTTP status; None without an answer."""

    def __init__(self, what: str, status: int | None, remedy: str | None = None) -> None:
        super().__init__(what, remedy)
        self.status = status

    @property
    def is_answer(self) -> bool:
        """Whether Airflow has answered the call. An overloaded Airflow does not, or fails with a status of 500 or more.

        It says "Database error" if its pool of connections to Postgres is used up, for example.
        """
        return self.status is not None and self.status < httpx.codes.INTERNAL_SERVER_ERROR


class AirflowApi:
    """One deployment of Airflow. Every method raises ApiError if Airflow refuses the call or cannot be reached.

    ``answer_seconds`` is how long an answer may take.
    """

    answer_seconds = 30.0

    def __init__(self, url: str, username: str, password: SecretStr) -> None:
        self.url = url
        self._login = (username, password)
        self._client = httpx.Client(base_url=url, timeout=self.answer_seconds, trust_env=False)
        self._access_token, self._token_until = "", 0.0
        self.requests = 0       # how many were sent so far: what the rig itself costs Airflow

    @classmethod
    def with_token(cls, url: str, token: SecretStr) -> Self:
        """Return the API of a deployment whose user has a token. No other token is asked for."""
        made = cls(url, "", SecretStr(""))
        made._access_token, made._token_until = token.get_secret_value(), math.inf
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the API server."""
        self._client.close()

    @staticmethod
    def seconds(moment: str | None) -> float | None:
        """Convert one of the API's times to seconds since the epoch; None stays None."""
        return None if moment is None else datetime.fromisoformat(moment).timestamp()

    def health(self) -> dict[str, dict[str, str | None]]:
        """Return the health of the scheduler, the DAG processor and the database. Needs no login."""
        answer: dict[str, dict[str, str | None]] = self._send("GET", "/api/v2/monitor/health", login=False)
        return answer

    def version(self) -> str:
        """Return Airflow's version."""
        return str(self._send("GET", "/api/v2/version", login=False)["version"])

    def dag_ids(self) -> list[str]:
        """Return the ids of all DAGs, including paused ones."""
        return [dag["dag_id"] for dag in self._pages("/api/v2/dags", "dags", exclude_stale=True)]

    def import_errors(self) -> list[str]:
        """Return a line for each DAG file that failed to import."""
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}"
                for error in self._pages("/api/v2/importErrors", "import_errors")]

    def is_paused(self, dag_id: str) -> bool:
        """Return whether a DAG is paused. Raises ApiError with status 404 if there is no such DAG."""
        return bool(self._send("GET", f"/api/v2/dags/{dag_id}")["is_paused"])

    def set_paused(self, dag_id: str, paused: bool) -> bool:
        """Pause or unpause a DAG; return whether it was paused before."""
        before = self.is_paused(dag_id)
        if before != paused:
            self._send("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": paused})
        return before

    @contextmanager
    def paused(self, dag_id: str, paused: bool) -> Iterator[None]:
        """Pause or unpause a DAG for the block, and restore its state afterwards.

        If the API server is gone at the end of the block, this raises no second error: whatever watches the server
        reports it.
        """
        before = self.set_paused(dag_id, paused)
        try:
            yield
        finally:
            with suppress(ApiError):
                self.set_paused(dag_id, before)

    def trigger(self, dag_id: str, conf: dict[str, Any], run_id: str | None = None) -> str:
        """Start a DAG run and return its id, which Airflow creates if none is given."""
        named = {} if run_id is None else {"dag_run_id": run_id}
        run = self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns",
                         json={"logical_date": None, "conf": conf, **named})
        return str(run["dag_run_id"])

    def active_states(self, dag_id: str) -> Counter[str]:
        """Return how many of a DAG's runs are queued, and how many running: one request for up to a hundred runs."""
        return Counter(run["state"] for run in self._pages(
            f"/api/v2/dags/{dag_id}/dagRuns", "dag_runs", state=list(ACTIVE)))

    def ended_runs(self, dag_id: str, prefix: str, since: str | None) -> list[dict[str, Any]]:
        """Return the DAG's runs with this prefix in their ids that ended at ``since`` or later, earliest first."""
        later = {} if since is None else {"end_date_gte": since}
        return list(self._pages(f"/api/v2/dags/{dag_id}/dagRuns", "dag_runs", state=["success", "failed"],
                                run_id_prefix_pattern=prefix, order_by="end_date", **later))

    def instances_of(self, dag_id: str, run_ids: Sequence[str], task_id: str) -> list[dict[str, Any]]:
        """Return every instance of one task, including mapped ones, of several runs."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._send("POST", "/api/v2/dags/~/dagRuns/~/taskInstances/list", json={
                "dag_ids": [dag_id], "dag_run_ids": list(run_ids), "task_ids": [task_id], "page_limit": PAGE,
                "page_offset": len(found)})
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return a run's state: queued, running, success or failed."""
        return str(self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """Set a run and its unfinished tasks to failed. Airflow stops the running tasks."""
        self._send("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def active_runs(self) -> list[str]:
        """Return, as ``dag/run``, the runs that are queued or running."""
        runs = self._pages("/api/v2/dags/~/dagRuns", "dag_runs", state=list(ACTIVE))
        return [f"{run['dag_id']}/{run['dag_run_id']}" for run in runs]

    def task_instances(self, dag_id: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
        """Return every instance of one task of a run, including mapped ones."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return [task for task in self._pages(path, "task_instances", order_by="map_index", task_id=task_id)
                if task["task_id"] == task_id]

    def task_counts(self, dag_id: str, run_id: str) -> dict[str, int]:
        """Return how many of a run's tasks are in each state."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return {state: int(self._send("GET", path, params={"state": state, "limit": 1})["total_entries"])
                for state in ("running", "success", "failed")}

    def running_tasks(self) -> int:
        """Return how many tasks of all DAG runs are running."""
        answer = self._send("GET", "/api/v2/dags/~/dagRuns/~/taskInstances", params={"state": "running", "limit": 1})
        return int(answer["total_entries"])

    def returned(self, dag_id: str, run_id: str, task_id: str, map_indexes: list[int]) -> list[Any]:
        """Return what each mapped task returned, or None for a task that returned nothing."""
        def one(map_index: int) -> object:
            path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
            try:
                return self._send("GET", path, params={"map_index": map_index, "deserialize": "false"})["value"]
            except ApiError as error:
                if error.status == httpx.codes.NOT_FOUND:
                    return None
                raise
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, map_indexes))

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Create a pool, or set the number of slots of an existing one."""
        body = {"name": name, "slots": slots, "description": description}
        try:
            self._send("POST", "/api/v2/pools", json=body)
        except ApiError as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            self._send("PATCH", f"/api/v2/pools/{name}", json={**body, "include_deferred": False})

    def make_connection(self, fields: dict[str, Any]) -> None:
        """Create a connection in Airflow's metadata database, as its web page does."""
        self._send("POST", "/api/v2/connections", json=fields)

    def _pages(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self._send("GET", path, params={**params, "limit": PAGE, "offset": offset})
            yield from page[key]
            offset += PAGE
            if offset >= page["total_entries"]:
                return

    def _send(self, method: str, path: str, *, login: bool = True, **request: Any) -> Any:
        response = self._request(method, path, login=login, **request)
        if response.status_code == httpx.codes.UNAUTHORIZED and login and self._token_until < math.inf:
            self._token_until = 0.0     # ended early, for example by a new secret of the server: log in once more
            response = self._request(method, path, login=login, **request)
        if response.is_error:
            does = "cannot answer" if response.is_server_error else "refuses"
            raise ApiError(f"Airflow at {self.url} {does} {method} {path}: {response.status_code} "
                           f"{_detail(response)}", response.status_code)
        return response.json() if response.content else None

    def _request(self, method: str, path: str, *, login: bool, **request: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token()}"} if login else {}
        self.requests += 1
        try:
            return self._client.request(method, path, headers=headers, **request)
        except httpx.HTTPError as error:
            raise ApiError(f"Airflow at {self.url} does not answer {method} {path}: {error or type(error).__name__}",
                           None) from error

    def _token(self) -> str:
        if time.monotonic() > self._token_until:
            username, password = self._login
            answer = self._send("POST", "/auth/token", login=False,
                                json={"username": username, "password": password.get_secret_value()})
            self._access_token = answer["access_token"]
            self._token_until = time.monotonic() + USED_OF_A_TOKEN * life_of(self._access_token)
        return self._access_token


def life_of(token: str) -> float:
    """Return how long a token lives, in seconds, as the token says; TOKEN_LIFE if it does not say."""
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return min(TOKEN_LIFE, float(claims["exp"]) - float(claims["iat"]))
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return TOKEN_LIFE


def _detail(response: httpx.Response) -> str:
    try:
        # When a parameter is refused, the answer has pages of its schema. The first line is enough.
        return str(response.json()["detail"]).strip().split("\n", 1)[0]
    except (ValueError, KeyError, TypeError):
        return " ".join(response.text.split())[:200]
