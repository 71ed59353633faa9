"""Sphinx extension: pages that include the project's guides from beside the code.

A page of the site that is only an ``include`` of a guide shows that guide. This extension makes the guide's
links and pictures work there: a link to another guide leads to its page, a link to a file downloads the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

from sphinx.application import Sphinx

_FOLDER = ".github/docs"
_INCLUDE = re.compile(r"^```\{include\} (\S+)$", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
_TEST_OPTIONS = re.compile(r"^<!-- test: .* -->\n", re.MULTILINE)


def find_pages(source: Path) -> dict[str, str]:
    """Return the page of each included guide: both paths are from the project's folder."""
    pages = {"README.md": f"{_FOLDER}/index.md"}
    for page in sorted(source.glob("**/*.md")):
        name = f"{_FOLDER}/{page.relative_to(source).as_posix()}"
        for guide in _INCLUDE.findall(page.read_text(encoding="utf-8")):
            pages[normpath(f"{name}/../{guide}")] = name
    return pages


def move_links(text: str, guide: str, pages: dict[str, str]) -> str:
    """Return the text of a guide with links that work in the site.

    Args:
        text: The guide's Markdown.
        guide: Its path from the project's folder.
        pages: The page of each guide.
    """

    def moved(link: re.Match[str]) -> str:
        target = normpath(f"{guide}/../{link[1]}")
        return "/" + relpath(pages.get(target, target), _FOLDER)

    return _LINK.sub(moved, text)


def _read_guide(app: Sphinx, path: Path, _page: str, content: list[str]) -> None:
    guide = normpath(f"{_FOLDER}/{path.as_posix()}")
    content[0] = _TEST_OPTIONS.sub("", move_links(content[0], guide, find_pages(Path(app.srcdir))))


def _read_page(_app: Sphinx, _page: str, content: list[str]) -> None:
    content[0] = _TEST_OPTIONS.sub("", content[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("include-read", _read_guide)
    app.connect("source-read", _read_page)
    return {"parallel_read_safe": True}
