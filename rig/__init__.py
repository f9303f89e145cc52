"""The comparison: starts the stack, runs the DAGs on both executors, counts connections at the server, and reports."""
