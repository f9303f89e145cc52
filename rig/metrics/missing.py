"""A figure that is not available, and why."""


class Missing(Exception):
    """This DAG run has no such figure. The message is the reason that the report prints."""
