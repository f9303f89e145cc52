"""The status of driver hosts as a table for people, no wider than 100 characters.

Text from outside (a server's message, an address) is shown without control characters, which a terminal would obey.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

WIDTH = 100
# Title, and whether its values are numbers.
_COLUMNS = (("SLOT", True), ("UPSTREAM", False), ("STATE", False), ("IDLE", True), ("USED", True), ("MAX", True),
            ("WAITING", True), ("LEASES", True), ("ERRORS", True), ("FAULTS", True))
_UPSTREAM = 1
_GAP = "  "
_SHORTEST_UPSTREAM = 12
_MOST_STATE_LENGTH = 8


def table(hosts: Sequence[dict[str, Any]]) -> str:
    """Return each host with a line for each of its shared drivers, and the last errors below them."""
    return "\n\n".join(_host(host) for host in hosts)


def _host(host: dict[str, Any]) -> str:
    drivers: list[dict[str, Any]] = host.get("drivers", [])
    return "\n".join([*_about(host), *(_rows(drivers) if drivers else []), *_troubles(host, drivers)])


def _about(host: dict[str, Any]) -> list[str]:
    """Return the line that says which host it is, wrapped if its folder needs it."""
    words = [f"driver host {host['pid']}" if host.get("pid") else "driver host", str(host["state"])]
    if host.get("worker"):
        words[0] += f" of {host['worker']}"
    if "scope" in host:
        words.append(f"scope {host['scope']}")
    if "uptime_seconds" in host:
        words.append(f"for {_duration(host['uptime_seconds'])}")
    if "drivers" in host and not host["drivers"]:
        words.append("no shared driver yet")
    if host.get("metrics"):
        words.append(f"metrics on {host['metrics']}")
    return _wrapped(", ".join([*words, f"folder {host['folder']}"]), "  ")


def _rows(drivers: Sequence[dict[str, Any]]) -> list[str]:
    cells = [[title for title, _ in _COLUMNS], *map(_cells, drivers)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    others = sum(widths) - widths[_UPSTREAM] + len(_GAP) * (len(widths) - 1)
    widths[_UPSTREAM] = min(widths[_UPSTREAM], max(WIDTH - others, _SHORTEST_UPSTREAM))
    return [_row(row, widths) for row in cells]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(
        text.rjust(width) if is_number else _shortened(text, width).ljust(width)
        for text, width, (_, is_number) in zip(cells, widths, _COLUMNS, strict=True)).rstrip()


def _cells(driver: dict[str, Any]) -> list[str]:
    connections, faults = driver["connections"], driver["faults"]
    return [str(driver["slot"]), _printable(driver["upstream"]), driver["state"][:_MOST_STATE_LENGTH],
            *(_number(count) for count in (
                connections["idle"], connections["in_use"], connections["max_size"], driver["waits"]["now"],
                driver["leases"], driver["errors"], faults["own"] + faults["server"]))]


def _troubles(host: dict[str, Any], drivers: Sequence[dict[str, Any]]) -> list[str]:
    said = [host["last_error"]] if host.get("last_error") else []
    said += [f"slot {driver['slot']}, the last error: {driver['last_error']}" for driver in drivers
             if driver["last_error"]]
    return [line for text in said for line in _wrapped(text, "    ")]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(_printable(text), WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _shortened(text: str, width: int) -> str:
    """Return a text without its middle if it is too long: addresses differ at their ends as well as at their starts."""
    if len(text) <= width:
        return text
    kept = width - 1
    return f"{text[:kept - kept // 2]}…{text[len(text) - kept // 2:]}"


def _number(count: int) -> str:
    """Return a count with at most seven characters: from ten million on, in millions."""
    return str(count) if count < 10_000_000 else f"{count // 1_000_000}M"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (int(seconds), "s")]
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first:first + 2])


def _printable(text: str) -> str:
    """Return a text in one line, without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
