"""Sphinx extension: the site for language models.

``llms.txt`` has the contents, with a sentence about each page, and ``llms-full.txt`` has all pages. Each is
also Markdown, at its address with ``.md``.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath
from typing import Any

from docutils import nodes
from papers import find_pages, move_links
from sphinx import addnodes
from sphinx.application import Sphinx

_COMMENT = re.compile(r"^<!-- .* -->\n", re.MULTILINE)
_INCLUDE = re.compile(r"^```\{include\} (\S+)\n```\n", re.MULTILINE)


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


def _as_markdown(app: Sphinx, name: str) -> str:
    """Return a page: its Markdown, with the guide that it includes, and the entries that are generated."""
    path = Path(app.env.doc2path(name))

    def guide(found: re.Match[str]) -> str:
        place = normpath(f".github/docs/{name}/../{found[1]}")
        text = (path.parent / found[1]).read_text(encoding="utf-8")
        return move_links(text, place, find_pages(Path(app.srcdir)))

    text = _COMMENT.sub("", _INCLUDE.sub(guide, path.read_text(encoding="utf-8")))
    for entry in app.env.get_doctree(name).findall(addnodes.desc):
        if not isinstance(entry.parent, addnodes.desc_content):
            text += _entry(entry, level=3)
    return text


def _entry(entry: addnodes.desc, level: int) -> str:
    """Return a class, function or attribute of the reference, with all that is in it."""
    signatures = [node.astext() for node in entry.findall(addnodes.desc_signature) if node.parent is entry]
    text = "".join(f"\n{'#' * level} `{' '.join(signature.split())}`\n" for signature in signatures)
    for content in entry.findall(addnodes.desc_content):
        for node in content.children if content.parent is entry else ():
            if isinstance(node, addnodes.desc):
                text += _entry(node, min(level + 1, 6))
            elif not isinstance(node, addnodes.index):
                text += f"\n{node.astext()}\n"
    return text


def _write(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    (folder / "llms.txt").write_text(outline(app), encoding="utf-8")
    pages: list[str] = []
    for name in sorted(app.env.found_docs):
        pages.append(_as_markdown(app, name))
        file = folder / f"{name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(pages[-1], encoding="utf-8")
    (folder / "llms-full.txt").write_text("\n".join(pages), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
