"""Keeps secrets out of the summary and the report, because both are meant to be shared."""

import re
from typing import Any

MASK = "***"

_SECRET_NAME = re.compile(r"passw|secret|token|credential|api_?key|\bauth\b", re.IGNORECASE)
_IN_TEXT = (
    (re.compile(r"(://)[^/\s@'\"]+@"), rf"\1{MASK}@"),
    (re.compile(r"((?:passw\w*|secret\w*|token\w*)[\"']?\s*[=:]\s*|--(?:password|secret|token)\s+)"
                r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&]+)", re.IGNORECASE), rf"\1{MASK}"),
)


def redacted(value: Any, name: str = "") -> Any:
    """Return a copy of a JSON-like value without anything that looks like a secret."""
    if isinstance(value, dict):
        return {key: redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, name) for item in value]
    if _SECRET_NAME.search(name) and value is not None and not isinstance(value, bool):
        return MASK
    return text(value) if isinstance(value, str) else value


def text(value: str) -> str:
    """Return a text without the user part of its addresses, and without the values of secrets in it."""
    for pattern, replacement in _IN_TEXT:
        value = pattern.sub(replacement, value)
    return value
