"""The tab "Neo4j connections" in Locust's page, the charts behind it, and a start that says what is wrong with it."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import flask
from locust.env import Environment
from locust.web import WebUI

from loadtest.master import Master
from loadtest.records import LoadSample

KEY = "neo4j"
TITLE = "Neo4j connections"
RATE_SECONDS = 10.0     # over which connections opened per second are averaged
STRUCTURE = [{"key": "what", "title": "What"}, {"key": "now", "title": "Now", "round": 2},
             {"key": "most", "title": "Highest", "round": 2}, {"key": "meaning", "title": "Meaning"}]

Row = dict[str, str | float | None]


def add(ui: WebUI, environment: Environment, master: Master, problem: Callable[[dict[str, str]], str | None]) -> None:
    """Add all of it to Locust's web application. ``problem`` judges a form that was sent."""
    chosen = environment.parsed_options
    base = (chosen.web_base_path if chosen else None) or ""
    ui.template_args.update(
        extended_tabs=[{"key": KEY, "title": TITLE}], extended_tables=[{"key": KEY, "structure": STRUCTURE}],
        extended_csv_files=[{"href": f"./{KEY}", "title": "Neo4j connections: charts"},
                            {"href": f"./{KEY}/series.csv", "title": "Neo4j connections: CSV"}])
    app = ui.app
    if app is None:
        raise RuntimeError("Locust has no web application to add to")
    app.register_blueprint(_pages(ui, base, master))

    @app.before_request
    def refuse() -> flask.Response | None:
        request = flask.request
        if request.path != f"{base}/swarm" or request.method != "POST":
            return None
        said = problem(request.form.to_dict())
        return flask.jsonify({"success": False, "message": said}) if said else None

    @app.after_request
    def extend(response: flask.Response) -> flask.Response:
        path = flask.request.path
        if path == f"{base}/stats/requests" and response.is_json:
            found = {**(response.get_json() or {}), "extended_stats": [{"key": KEY, "data": table(list(master.live))}]}
            response.set_data(json.dumps(found))
        elif path == f"{base}/" and response.mimetype == "text/html":
            script = f'<script src="./{KEY}/static/tab.js" defer></script></body>'
            response.set_data(response.get_data(as_text=True).replace("</body>", script, 1))
        return response


def _pages(ui: WebUI, base: str, master: Master) -> flask.Blueprint:
    pages = flask.Blueprint(KEY, __name__, url_prefix=f"{base}/{KEY}", static_url_path="/static",
                            static_folder=str(Path(__file__).parent / "static"))

    def data() -> flask.Response:
        since = flask.request.args.get("since", 0.0, float)
        test = master.test
        return flask.jsonify({
            "samples": [point(sample) for sample in list(master.live) if sample.t > since],
            "runs": [[run.due + run.run, run.run, run.queued, run.failed] for run in list(master.ended)
                     if run.run is not None and run.due + run.run > since - 30],
            "table": table(list(master.live)), "load": test.load.model_dump() if test else None,
            "share": test.share if test else None, "polls": test.polls_per_run if test else None,
            "summary": master.summary, "deployment": master.deployment})

    def series() -> flask.Response:
        lines = ["t,rate,runs_in_flight,open,idle,running,opened"]
        lines += [",".join("" if value is None else f"{value}" for value in (
            sample.t, sample.rate, sample.in_flight, sample.open, sample.idle, sample.running, sample.opened))
            for sample in list(master.live)]
        return flask.Response("\n".join(lines) + "\n", mimetype="text/csv", headers={
            "Content-Disposition": "attachment;filename=neo4j_connections.csv"})

    for path, name, view in (("", "page", lambda: pages.send_static_file("page.html")), ("/data", "data", data),
                             ("/series.csv", "series", series)):
        pages.add_url_rule(path, name, ui.auth_required_if_enabled(view))
    return pages


def point(sample: LoadSample) -> dict[str, Any]:
    """Return a sample for the page's charts."""
    return {**sample.model_dump(include={"t", "elapsed", "rate", "open", "running", "opened", "runs_queued",
                                         "runs_running", "failed", "trouble"}),
            "idle": sample.idle, "in_flight": sample.in_flight,
            "patterns": {name: [count.open, count.running] for name, count in sample.patterns.items()},
            "workers": None if sample.workers is None else {
                name: [one.processes, one.open, one.in_use, one.opened] for name, one in sample.workers.items()}}


def opened_per_second(series: list[LoadSample]) -> list[float]:
    """Return, for each sample that has one, what was opened per second over the RATE_SECONDS before it."""
    counted = [sample for sample in series if sample.opened is not None]
    rates, first = [], 0
    for number, sample in enumerate(counted):
        while sample.t - counted[first].t > RATE_SECONDS:
            first += 1
        then = counted[first]
        if number > first and sample.opened is not None and then.opened is not None and sample.opened >= then.opened:
            rates.append((sample.opened - then.opened) / (sample.t - then.t))
    return rates


def table(live: list[LoadSample]) -> list[Row]:
    """Return the tab's rows. Column by column they are plain values: Locust's table shows nothing else."""
    series = _since_the_start(live)
    if not series:
        return []
    now, rates = series[-1], opened_per_second(series)
    rows = [
        _row("open", [sample.open for sample in series], "Bolt connections that Neo4j has open now"),
        _row("idle", [sample.idle for sample in series], "of these, without a transaction: kept, and doing nothing"),
        _row("in a transaction", [sample.running for sample in series], "of these, at work"),
        {"what": "opened per second", "now": rates[-1] if rates else None, "most": max(rates, default=None),
         "meaning": "new connections, each with a handshake and a login; mean of 10 s"},
        _row("opened since the start", [sample.opened for sample in series],
             "counted at the server, the probe left out"),
        _row("DAG runs in flight", [sample.in_flight for sample in series], "started and not ended"),
        _row("DAG runs queued", [sample.runs_queued for sample in series],
             "of these, not begun by Airflow: growing means that the rate does not hold")]
    rows += [_row(f"open · {name}", [_open(sample, name) for sample in series], f"by pattern {name}")
             for name in sorted({name for sample in series for name in sample.patterns})]
    rows += [{"what": f"{name}: drivers' connections", "now": one.open, "most": most_open(series, name),
              "meaning": f"{one.processes} worker processes, {one.in_use} in use, {one.opened} opened so far"}
             for name, one in (now.workers or {}).items()]
    if now.trouble:
        rows.append({"what": "not seen", "now": None, "most": None, "meaning": now.trouble})
    return rows


def most_open(series: list[LoadSample], worker: str) -> int:
    """Return the most connections that a worker's drivers had open."""
    return max(one.open for sample in series if (one := (sample.workers or {}).get(worker)))


def _row(what: str, values: list[int | None], meaning: str) -> Row:
    known = [value for value in values if value is not None]
    return {"what": what, "now": values[-1], "most": max(known, default=None), "meaning": meaning}


def _open(sample: LoadSample, pattern: str) -> int:
    count = sample.patterns.get(pattern)
    return count.open if count else 0


def _since_the_start(live: list[LoadSample]) -> list[LoadSample]:
    """Return the samples of the last test; all there are before the first one."""
    starts = [number for number, (before, after) in enumerate(pairwise(live), 1) if before.elapsed <= 0 < after.elapsed]
    return live[starts[-1]:] if starts else live
