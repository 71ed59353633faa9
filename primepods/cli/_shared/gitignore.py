"""Exclusion of files by git's patterns."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pathspec import GitIgnoreSpec

from primepods.remote import Exclusion

from .errors import CommandError, ExitCode


class GitExclusion(Exclusion):
    """Exclusion by patterns in the style of rsync, and by files in the syntax of ``.gitignore``."""

    def __init__(self, patterns: Iterable[str], files: Iterable[Path]) -> None:
        super().__init__(patterns)
        # One list of patterns: a file's "!pattern" includes again what an earlier file excludes.
        self._spec = GitIgnoreSpec([])
        for file in files:
            try:
                self._spec += GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8").splitlines())
            except ValueError as exc:
                raise CommandError(f"--exclude-from {file}: {exc}", ExitCode.USAGE) from None

    def matches(self, path: str, *, is_folder: bool) -> bool:
        name = f"{path}/" if is_folder else path
        return super().matches(path, is_folder=is_folder) or self._spec.match_file(name)
