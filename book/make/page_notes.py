"""Sphinx extension: below the title of a notebook's page stands at which preset it was executed."""

import json
from pathlib import Path

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", _add_note)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_note(app: Sphinx, page: str, _template: str, context: dict, _tree: object) -> None:
    notes = json.loads((Path(app.srcdir) / "_generated" / "page_notes.json").read_text("utf-8"))
    if page in notes:
        note = f'</h1>\n<p class="run-note">{notes[page]}</p>'
        context["body"] = context["body"].replace("</h1>", note, 1)
