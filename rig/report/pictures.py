"""The pictures of the documentation, made from a run's folder: ``python -m rig.report.pictures RUN [FOLDER]``.

``lifelines.svg`` is the first picture of the report with the headline, in light colours. It is a separate file that a
text page can show.
"""

import re
import sys
from pathlib import Path

from rig import metrics, runs, settings
from rig.errors import BadInput, RigError
from rig.metrics import Summary
from rig.metrics.raw import RawRun
from rig.report import headline
from rig.report.lifelines import lifelines
from rig.report.page import templates
from rig.whole_file import write_whole

FOLDER = settings.PROJECT / "docs" / "images"
LIFELINES = "lifelines.svg"

_WIDTH, _MARGIN = 960, 28
_FIRST, _TITLE, _AXIS = 76, 42, 52        # heights in pixels: above the strips, of a strip's title, below the strips


def write(run: Path, folder: Path) -> list[Path]:
    """Write the pictures of a run into a folder and return their paths. Raises BadInput if the run has none."""
    raw = metrics.load(run)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / LIFELINES, svg(raw, metrics.summary_of(raw)))
    return [folder / LIFELINES]


def svg(raw: RawRun, summary: Summary) -> str:
    """Return the life of every connection as a standalone drawing. Raises BadInput if none was seen."""
    picture = lifelines(raw, summary)
    if picture is None:
        raise BadInput(f"{raw.record.run} has no connection that could be drawn",
                       "choose a run that has problematic, improved or worker")
    strips, top = [], float(_FIRST)
    for strip in picture.strips:
        top += _TITLE
        strips.append((strip, round(top, 1)))
        top += strip.height
    drawn: str = templates().get_template("lifelines.svg.j2").render(
        picture=picture, headline=headline.headline(summary), strips=strips, colours=_light(), width=_WIDTH,
        height=round(top + _AXIS), margin=_MARGIN, bottom=round(top, 1))
    return drawn


def _light() -> dict[str, str]:
    """Return the light colours of the pages, by their names in the style sheet."""
    style = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): (#\w+);", style[:style.index("@media")]))


def main(arguments: list[str]) -> None:
    """Write the pictures of a run, named as for ``rig report``, into docs/images or the given folder."""
    if len(arguments) not in {1, 2}:
        raise BadInput("expected a run, and a folder if you like", "python -m rig.report.pictures RUN [FOLDER]")
    run, *folder = arguments
    for path in write(runs.find(settings.load().data_dir, run), Path(*folder) if folder else FOLDER):
        print(path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
