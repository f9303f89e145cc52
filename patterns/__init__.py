"""The workload, written once, and several ways to get a Neo4j driver for it, behind one interface.

This package runs inside other people's workers. It needs only the ``neo4j`` driver, and importing the package does not
even import that. Only :mod:`patterns.airflow_tasks` needs Airflow's task SDK.
"""

# A constant, because a package that is mounted and not installed has no metadata to read, and reading it would add to
# the time to the first result. A test checks that it equals the version in pyproject.toml.
__version__ = "0.1.0"
