"""The topology of Airflow's own docker-compose.yaml for CeleryExecutor, as the reference that ours is compared with."""

from typing import Any, NamedTuple

OFTEN = {"interval": "30s", "timeout": "10s", "retries": 5, "start_period": "30s"}
STORES = {"postgres": "service_healthy"}
AFTER_INIT = {**STORES, "airflow-init": "service_completed_successfully"}
WITH_REDIS = {**AFTER_INIT, "redis": "service_healthy"}


class Official(NamedTuple):
    """A service as Airflow has it: what it runs, how its health is asked, what it waits for."""

    command: list[str] | None
    health: list[str] | None
    timing: dict[str, Any] | None
    waits_for: dict[str, str]


def _job(kind: str) -> list[str]:
    return ["CMD-SHELL", f'airflow jobs check --job-type {kind} --hostname "$${{HOSTNAME}}"']


SERVICES = {
    "postgres": Official(None, ["CMD", "pg_isready", "-U", "airflow"],
                         {"interval": "10s", "retries": 5, "start_period": "5s"}, {}),
    "redis": Official(None, ["CMD", "redis-cli", "ping"],
                      {"interval": "10s", "timeout": "30s", "retries": 50, "start_period": "30s"}, {}),
    "airflow-apiserver": Official(
        ["api-server"], ["CMD", "curl", "--fail", "http://localhost:8080/api/v2/monitor/health"], OFTEN, AFTER_INIT),
    "airflow-scheduler": Official(["scheduler"], _job("SchedulerJob"), OFTEN, WITH_REDIS),
    "airflow-dag-processor": Official(["dag-processor"], _job("DagProcessorJob"), OFTEN, AFTER_INIT),
    "airflow-triggerer": Official(["triggerer"], _job("TriggererJob"), OFTEN, AFTER_INIT),
    "airflow-worker": Official(
        ["celery", "worker"],
        ["CMD-SHELL", "celery --app airflow.providers.celery.executors.celery_executor.app inspect ping "
                      '-d "celery@$${HOSTNAME}"'],
        OFTEN, {**WITH_REDIS, "airflow-apiserver": "service_healthy"}),
    "airflow-init": Official(None, None, None, STORES),
    "flower": Official(["celery", "flower"], ["CMD", "curl", "--fail", "http://localhost:5555/healthcheck"], OFTEN,
                       WITH_REDIS),
}

# What is not as Airflow has it, each with its reason.
DIFFERENT = {
    "airflow-apiserver, airflow-dag-processor, airflow-triggerer, airflow-init wait for redis":
        "ours do not: they never talk to it, and they stay as they are when the executor changes",
    "flower has a profile": "ours has none: the overlay is what asks for it",
    "flower's health is asked of /": "ours of /healthcheck: / asks for a password",
    "airflow-init's script stands in the file": "ours in docker/airflow-init",
    "health of scheduler, DAG processor, triggerer, worker starts Airflow's command line":
        "ours asks over HTTP, and the worker by Celery alone: a tenth of the processor time",
    "the worker's health is a ping": "ours asks it to take something: one that takes nothing answers a ping",
    "services have 30 s to start": "ours have 5 minutes, which a slow and busy machine needs",
    "redis keeps nothing": "ours keeps the tasks that wait, in a volume",
}
