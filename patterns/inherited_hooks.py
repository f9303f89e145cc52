"""Celery's hooks for the exhibit ``inherited``: never load this module in a deployment that does work."""

from typing import Any

from celery.signals import worker_init


@worker_init.connect
def open_driver(**_: Any) -> None:
    """Open, before there is a pool, the driver that all pool processes and all of their tasks will inherit."""
    from patterns.inherited import open_in_worker  # noqa: PLC0415

    open_in_worker()
