"""What the services inherit of the user's environment: what is named here, and nothing else.

A list of exceptions is never complete: `PGSSLMODE`, `_JAVA_OPTIONS`, `http_proxy`, `PYTHONPATH` or `OTEL_…` of a user's
shell are meant for other programs, and would make services of ours fail, or two machines' figures differ.
"""

from collections.abc import Iterable, Mapping

# Where programs are, whose files they use, in which language and time zone they write, whom they trust for TLS.
NAMES = ("PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LANGUAGE", "TZ", "SSL_CERT_FILE",
         "SSL_CERT_DIR")
PREFIXES = ("LC_",)


def of(environ: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """Return what a service inherits: what is named above, and the variables that the user names (RIG_INHERIT)."""
    names = {*NAMES, *more}
    return {name: value for name, value in environ.items() if name in names or name.startswith(PREFIXES)}
