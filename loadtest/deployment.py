"""Checks, before a load test is started, whether the deployment is ready for it."""

import httpx

from loadtest.target import Target
from patterns.facts import STRESS_DAG
from rig.airflow_api import ApiError
from rig.errors import BadInput


def require_ready(target: Target, *, unpause: bool) -> None:
    """Return if DAG runs can be started. With ``unpause`` the DAG is unpaused.

    Raises BadInput if the API does not answer or refuses the login, or if the DAG is missing or paused.
    """
    try:
        with target.api() as api:
            paused = api.is_paused(STRESS_DAG)
            if paused and unpause:
                api.set_paused(STRESS_DAG, paused=False)
    except ApiError as error:
        raise _explained(error) from error
    if paused and not unpause:
        raise BadInput(f"{STRESS_DAG} is paused: its runs would wait forever",
                       f"unpause it in Airflow (`airflow dags unpause {STRESS_DAG}`), or add --unpause (on Locust's "
                       "page: Unpause)")


def _explained(error: ApiError) -> BadInput:
    if error.status == httpx.codes.NOT_FOUND:
        return BadInput(f"there is no DAG {STRESS_DAG} in this deployment",
                        "put dags/ of this project there, and install the project where its tasks run")
    if error.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return BadInput(error.what, "check LOADTEST_AIRFLOW_USERNAME and LOADTEST_AIRFLOW_PASSWORD")
    return BadInput(error.what, "check that LOADTEST_AIRFLOW_URL is the address of a running API server")
