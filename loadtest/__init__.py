"""The load test: Locust drives the DAG ``neo4j_stress_test``, while the server's connections are watched."""
