"""What a DAG run used of the machine: processor seconds per task by service, and how noisy the machine was."""

from collections.abc import Callable, Mapping

from rig.metrics.intervals import Number
from rig.metrics.missing import Missing
from rig.metrics.raw import Repeat
from rig.records import TAP, MachineShare

NOT_RECORDED = "processor times were not recorded"
SERVICES = {
    "cpu_tasks": "tasks", "cpu_scheduler": "airflow-scheduler", "cpu_api_server": "airflow-apiserver",
    "cpu_dag_processor": "airflow-dag-processor", "cpu_worker": "airflow-worker", "cpu_driver_host": "worker-driver",
    "cpu_neo4j": "neo4j", "cpu_postgres": "postgres", "cpu_redis": "redis", "cpu_flower": "flower",
    "cpu_probe": "probe"}
IN_NO_SUM = ("flower", "probe")


def share(repeat: Repeat) -> MachineShare:
    """Return the recorded share. Raises Missing if nothing was recorded."""
    if repeat.record is None or repeat.record.machine is None:
        raise Missing(NOT_RECORDED)
    return repeat.record.machine


def _of_service(service: str) -> Callable[[Repeat], Number]:
    def seconds(repeat: Repeat) -> Number:
        found = _by_service(repeat)
        if service not in found:
            raise Missing("it did not run")
        return found[service] / repeat.cell.tasks
    return seconds


def _together(repeat: Repeat) -> Number:
    found = _by_service(repeat)
    return sum(seconds for service, seconds in found.items() if service not in IN_NO_SUM) / repeat.cell.tasks


def _by_service(repeat: Repeat) -> Mapping[str, float]:
    found = share(repeat)
    if found.cpu_seconds is None:
        raise Missing(found.missing.get("cpu_seconds", NOT_RECORDED))
    services = dict(found.cpu_seconds)
    if TAP in services:     # it measures, as the probe does
        services["probe"] = services.get("probe", 0.0) + services.pop(TAP)
    return services


def _condition(name: str) -> Callable[[Repeat], Number]:
    def value(repeat: Repeat) -> Number:
        found = share(repeat)
        known: float | None = getattr(found, name)
        if known is None:
            raise Missing(found.missing.get(name, NOT_RECORDED))
        return known
    return value


MEASURES: Mapping[str, Callable[[Repeat], Number]] = {
    "cpu_per_task": _together,
    **{metric: _of_service(service) for metric, service in SERVICES.items()},
    "cpu_pressure": _condition("pressure"), "cpu_steal": _condition("steal"), "load_mean": _condition("load"),
    "cpu_unattributed": _condition("unattributed")}
