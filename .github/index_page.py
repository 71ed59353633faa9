"""Build hook: the README for a package index's page, where links to files of the project lead nowhere."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


def index_page(readme: str) -> str:
    """Return the README without its pictures and comments, and with links to files as plain text."""
    readme = re.sub(r"^<!--.*-->\n", "", readme, flags=re.MULTILINE)
    readme = re.sub(r"!\[[^\]]*\]\((?!https:)[^)]*\)\n*", "", readme)
    return re.sub(r"\[([^\]]+)\]\((?!https:)[^)]*\)", r"\1", readme)


class IndexPage(MetadataHookInterface):
    """Set the package's description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the metadata that ``pyproject.toml`` declares as dynamic."""
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": index_page(readme)}
