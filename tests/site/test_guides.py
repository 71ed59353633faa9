"""The documentation site has the project's guides."""

import re

from tests.readme_blocks import PAPERS, ROOT

SITE = ROOT / ".github" / "docs"


def test_each_guide_is_a_page() -> None:
    """Each guide is included by one page of the site."""
    pages = list(SITE.rglob("*.md"))
    others = {*pages, ROOT / "README.md", ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md"}
    guides = set(PAPERS) - others
    included = [
        (page.parent / guide).resolve()
        for page in pages
        for guide in re.findall(r"^```\{include\} (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(included) == sorted(guides)
