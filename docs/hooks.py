"""What the site does differently from a page on its own: links that leave this folder, and diagrams.

mkdocs calls these. A link to a file outside of docs/ has no page on the site: its text stays, and names the file. A
Mermaid diagram is shown as the image that ``python -m testing.diagrams`` has drawn of it, since Mermaid itself would be
loaded from a CDN; without an image it is shown as its text.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLDER = "images/diagrams"


def name_of(diagram: str) -> str:
    """Return the name of a diagram's image: another diagram has another."""
    return f"{hashlib.sha256(diagram.encode()).hexdigest()[:12]}.svg"


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return a page's text as the site shows it."""
    folder = Path(config["docs_dir"])
    up = "../" * page.file.src_uri.count("/")

    def kept(link: "re.Match[str]") -> str:
        found = (folder / page.file.src_uri).parent.joinpath(link[2]).resolve()
        return link[0] if found.is_relative_to(folder.resolve()) else link[1]

    def image(diagram: "re.Match[str]") -> str:
        name = f"{FOLDER}/{name_of(diagram[1])}"
        return f"![A diagram]({up}{name}){{.diagram}}" if (folder / name).exists() else diagram[0]

    return DIAGRAM.sub(image, LINK.sub(kept, markdown))
