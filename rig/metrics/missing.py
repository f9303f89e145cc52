"""A figure that could not be had, and why."""


class Missing(Exception):
    """There is no such figure for this DAG run; the message is the reason that the report prints."""
