"""The documentation site has the project's guides."""

import re

from tests.readme_blocks import PAPERS, ROOT

SITE = ROOT / ".github" / "docs"


def test_each_guide_is_a_page() -> None:
    """Each paper but the README is included by one page: a new guide is in the site, too."""
    pages = list(SITE.rglob("*.md"))
    guides = {paper.resolve() for paper in PAPERS} - {page.resolve() for page in pages} - {ROOT / "README.md"}
    included = [
        (page.parent / guide).resolve()
        for page in pages
        for guide in re.findall(r"^```\{include\} (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(included) == sorted(guides)
