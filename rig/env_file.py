"""``.env``: the secrets that the compose files require, generated once and never changed after that.

Only the standard library is used: ``make env`` runs this with any Python, before anything is installed.
"""

import base64
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rig.errors import BadInput
from rig.whole_file import write_private

ENV_FILE = Path(__file__).resolve().parents[1] / ".env"
AIRFLOWS_UID = 50000      # the official image's user `airflow`: containers should not run as root
ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=(?P<value>.*)")
SECRETS: Mapping[str, Callable[[], str]] = {
    "AIRFLOW__CORE__FERNET_KEY": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode(),
    "AIRFLOW__API_AUTH__JWT_SECRET": lambda: secrets.token_urlsafe(64),
    "NEO4J_PASSWORD": lambda: secrets.token_urlsafe(24),
    "FLOWER_PASSWORD": lambda: secrets.token_urlsafe(12),
}
HEADING = "# Made by `make env`; .env.example explains every variable. It holds passwords: keep it to yourself."
ADDED = "# Added by `make env`:"


def complete(path: Path = ENV_FILE) -> list[str]:
    """Write the variables that are missing into ``.env`` and return their names. Present values stay as they are.

    If anything was written, only the owner can read the file afterwards. Raises BadInput if the file cannot be read or
    written, or if it names a Neo4j server without that server's password.
    """
    try:
        there = path.read_text(encoding="utf-8") if path.exists() else None
        missing = _missing(there)
        if missing:
            write_private(path, _text(there, missing))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read and written: {error}",
                       "make it a text file (UTF-8) of this user, or move it away") from error
    return list(missing)


def values(text: str) -> dict[str, str]:
    """Return the variables that a ``.env`` sets to a value that is not empty."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := ASSIGNMENT.fullmatch(line):
            value = match["value"].strip().strip("'\"")
            found[match["name"]] = "" if value.startswith("#") else value
    return {name: value for name, value in found.items() if value}


def _missing(there: str | None) -> dict[str, str]:
    known = values(there or "")
    if "NEO4J_URI" in known and "NEO4J_PASSWORD" not in known:
        raise BadInput("NEO4J_URI is set in .env and NEO4J_PASSWORD is not: the password of an existing server "
                       "cannot be generated", "add it to .env, or remove NEO4J_URI to get a new server")
    made = {} if "AIRFLOW_UID" in known else {"AIRFLOW_UID": str(os.getuid() or AIRFLOWS_UID)}
    return {**made, **{name: make() for name, make in SECRETS.items() if name not in known}}


def _text(there: str | None, missing: Mapping[str, str]) -> str:
    added = "".join(f"{name}={value}\n" for name, value in missing.items())
    if there is None:
        return f"{HEADING}\n{added}"
    return f"{there.rstrip()}\n\n{ADDED}\n{added}".lstrip()


def sentence(added: list[str]) -> str:
    """Return what was done, as a sentence."""
    return f".env has {', '.join(added)} now." if added else ".env has all that is needed: it was left as it is."


def main() -> int:
    """``make env``: return the exit code."""
    try:
        print(sentence(complete()))
    except BadInput as error:
        print(f"rig: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
