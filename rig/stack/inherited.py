"""The variables that services inherit from the user's environment: those named here, and no others.

A list of exceptions would never be complete. `PGSSLMODE`, `_JAVA_OPTIONS`, `http_proxy`, `PYTHONPATH` or `OTEL_…` in a
user's shell are meant for other programs. They would make services fail, or figures of two machines differ.
"""

from collections.abc import Iterable, Mapping

# The location of programs, whose files they use, the language and time zone of their output, and the TLS authorities.
NAMES = ("PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LANGUAGE", "TZ", "SSL_CERT_FILE",
         "SSL_CERT_DIR")
PREFIXES = ("LC_",)


def of(environ: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables that a service inherits: those named above, and those that the user names (RIG_INHERIT)."""
    names = {*NAMES, *more}
    return {name: value for name, value in environ.items() if name in names or name.startswith(PREFIXES)}
