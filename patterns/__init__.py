"""The workload once, and the ways to get a Neo4j driver for it: twins behind one interface.

This package runs inside other people's workers: it needs the ``neo4j`` driver and nothing else, and
importing it imports not even that. :mod:`patterns.airflow_tasks` alone needs Airflow's task SDK.
"""

# A constant: where the package is mounted and not installed there is no metadata to read, and reading it
# would be part of the time to the first result. A test holds it equal to pyproject.toml's.
__version__ = "0.1.0"
