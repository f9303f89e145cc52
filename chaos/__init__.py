"""Faults while DAG runs go on, and what must hold all the same: ``python -m chaos``, ``make chaos``."""
