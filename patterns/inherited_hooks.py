"""Celery's hooks for the exhibit ``inherited``. Never load this module in a deployment that does real work."""

from typing import Any

from celery.signals import worker_init


@worker_init.connect
def open_driver(**_: Any) -> None:
    """Before there is a pool, open the driver that all pool processes and their tasks will inherit."""
    from patterns.inherited import open_in_worker  # noqa: PLC0415

    open_in_worker()
