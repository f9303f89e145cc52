"""Celery's hooks for the exhibit ``inherited``: never load this module in a deployment that does work."""

from typing import Any

from celery.signals import worker_init, worker_process_init


@worker_init.connect
def import_driver(**_: Any) -> None:
    """Import the driver before the pool: with it a pool process would take longer to start than Celery allows."""
    import patterns.inherited  # noqa: F401, PLC0415


@worker_process_init.connect
def open_driver(**_: Any) -> None:
    """Open the driver that this pool process's tasks will inherit."""
    from patterns.inherited import open_in_worker_process  # noqa: PLC0415

    open_in_worker_process()
