"""Sphinx extension: ``llms.txt`` for language models: the contents, with a sentence about each page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def outline(app: Sphinx) -> str:
    """Return the site's sections and pages, in their order, each with the first sentence of the page."""
    env = app.env
    index = env.get_doctree(env.config.root_doc)
    lines = [f"# {app.config.project}", "", f"> {_first_sentence(index)}", ""]
    for toctree in index.findall(addnodes.toctree):
        lines += [f"## {toctree['caption']}", ""]
        for _, page in toctree["entries"]:
            link = f"[{env.titles[page].astext()}]({app.builder.get_target_uri(page)})"
            lines.append(f"- {link}: {_first_sentence(env.get_doctree(page))}")
        lines.append("")
    return "\n".join(lines)


def _first_sentence(page: nodes.document) -> str:
    """Return the first sentence of a page's first paragraph."""
    paragraph = next(iter(page.findall(nodes.paragraph)))
    sentence, mark, _ = " ".join(paragraph.astext().split()).partition(". ")
    return sentence + mark.strip()


def _write(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        Path(app.outdir, "llms.txt").write_text(outline(app), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
