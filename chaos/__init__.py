"""Faults during DAG runs, and what must hold in spite of them: ``python -m chaos``, ``make chaos``."""
