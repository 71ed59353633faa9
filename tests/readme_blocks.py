"""Finds the fenced blocks of the project's papers, and runs Python ones; for test_readme.py and .ci/run.

    python tests/readme_blocks.py "Try it"      prints the one shell block of that section of README.md

Of a console block, what it shows as printed must be printed, in that order; words with digits may differ.

A block is told how to be tested by a comment on a line of its own, right above it, that readers do not see:

    <!-- test: pods=3 boot_seconds=0 ids=["a1b2c3"] -->     arguments of the emulator it is run against
    <!-- test: until="http" -->                             is interrupted once it printed that
    <!-- test: raises="NotFoundError" -->                   ends with that exception
    <!-- test: skip="needs an account" -->                  is not run, and why
    <!-- test: needs="pandas,httpx" -->                     is run only where these are installed
    <!-- test: stub="ssh" -->                               finds a program of that name that does nothing
    <!-- test: file="train.py" -->                          runs where there is one of that name
    <!-- test: local_ssh=True -->                           finds the emulator's in the place of ssh
"""

import ast
import asyncio
import inspect
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAPERS = [
    path
    for pattern in ("*.md", ".github/**/*.md", "benchmarks/**/*.md", "primepods/**/*.md")
    for path in sorted(ROOT.glob(pattern))
]
PYTHON = ("python", "py")
SHELL = ("bash", "sh", "shell", "console")

_FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w+-]*)")
_HEADING = re.compile(r"^#+\s+(?P<title>.+?)\s*#*$")
_MARKER = re.compile(r"^<!--\s*test:\s*(?P<options>.*?)\s*-->$")
_OPTION = re.compile(r'(?P<name>\w+)=(?P<value>"[^"]*"|\S+)')


@dataclass(frozen=True)
class Block:
    """One fenced block: its text, where it stands, and how it wants to be tested."""

    language: str
    text: str
    section: str
    line: int
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def command(self) -> str:
        """What a reader would type: of a console block what follows `$`, else all of it."""
        return "\n".join(self._console()[0]) if self.language == "console" else self.text

    @property
    def output(self) -> list[str]:
        """The lines that a console block shows as printed."""
        return self._console()[1] if self.language == "console" else []

    def _console(self) -> tuple[list[str], list[str]]:
        typed: list[str] = []
        printed: list[str] = []
        goes_on = False
        for line in self.text.splitlines():
            is_typed = goes_on or line.startswith("$ ")
            goes_on = is_typed and line.endswith("\\")
            (typed if is_typed else printed).append(line.removeprefix("$ "))
        return typed, printed


def find_blocks(markdown: str) -> list[Block]:
    """All fenced blocks in the order in which they stand."""
    blocks: list[Block] = []
    section, options = "", dict[str, Any]()
    lines = iter(enumerate(markdown.splitlines(), start=1))
    for number, line in lines:
        if fence := _FENCE.match(line):
            text: list[str] = []
            for _, inner in lines:
                if inner.rstrip() == fence["fence"]:
                    break
                text.append(inner)
            language = fence["language"].lower()
            blocks.append(Block(language, "\n".join(text) + "\n", section, number, options))
            options = {}
        elif heading := _HEADING.match(line):
            section = heading["title"]
        elif marker := _MARKER.match(line.strip()):
            options = _options(marker["options"])
        elif line.strip():
            options = {}
    return blocks


def shell_block(section: str, markdown: str) -> Block:
    """The one shell block of a section; raises `LookupError` if there is none, or more."""
    found = [block for block in find_blocks(markdown) if block.section == section and block.language in SHELL]
    if len(found) != 1:
        msg = f"There must be one shell block under the heading {section!r}, there are {len(found)}"
        raise LookupError(msg)
    return found[0]


def run_python(file: Path) -> None:
    """Run a block as a script of its own, in which `await` and `async with` may stand at the top."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(file.read_text(), str(file), "exec", flags=flags)
    names: dict[str, Any] = {"__name__": "__main__"}
    result = eval(code, names)  # noqa: S307  the README's own text
    if inspect.iscoroutine(result):
        asyncio.run(_finish(result))


async def _finish(coroutine: Any) -> None:
    await coroutine


def _options(text: str) -> dict[str, Any]:
    return {match["name"]: ast.literal_eval(match["value"]) for match in _OPTION.finditer(text)}


def main(arguments: list[str]) -> None:
    """The command line described above."""
    sys.stdout.write(shell_block(arguments[0], README.read_text(encoding="utf-8")).command)


if __name__ == "__main__":
    main(sys.argv[1:])
