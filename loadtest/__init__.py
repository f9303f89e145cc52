"""The load test: Locust drives the DAG ``neo4j_stress_test``, and the server's connections are watched beside it."""
