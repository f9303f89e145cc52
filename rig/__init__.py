"""The comparison: brings the stack up, runs the DAGs on both executors, counts at the server, reports."""
