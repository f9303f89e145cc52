"""The tab "Neo4j connections" in Locust's page, the charts behind it, and a start form that reports its errors."""

import json
from collections.abc import Callable
from pathlib import Path

import flask
from locust.env import Environment
from locust.web import WebUI

from loadtest.master import Master
from loadtest.table import STRUCTURE, as_csv, by_test, points, table

KEY = "neo4j"
TITLE = "Neo4j connections"


def add(ui: WebUI, environment: Environment, master: Master, problem: Callable[[dict[str, str]], str | None]) -> None:
    """Add all of this to Locust's web application. ``problem`` checks a form that was sent."""
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
            rows = table(by_test(list(master.live)))
            found = {**(response.get_json() or {}), "extended_stats": [{"key": KEY, "data": rows}]}
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
        test, tests = master.test, by_test(list(master.live))
        return flask.jsonify({
            "samples": points(tests, since),
            "runs": [[run.due + run.run, run.run, run.queued, run.failed] for run in list(master.ended)
                     if run.run is not None and run.due + run.run > since - 30],
            "table": table(tests), "load": test.load.model_dump() if test else None,
            "share": test.share if test else None, "polls": test.polls_per_run if test else None,
            "summary": master.summary, "deployment": master.deployment})

    def series() -> flask.Response:
        return flask.Response(as_csv(by_test(list(master.live))), mimetype="text/csv", headers={
            "Content-Disposition": "attachment;filename=neo4j_connections.csv"})

    for path, name, view in (("", "page", lambda: pages.send_static_file("page.html")), ("/data", "data", data),
                             ("/series.csv", "series", series)):
        pages.add_url_rule(path, name, ui.auth_required_if_enabled(view))
    return pages
