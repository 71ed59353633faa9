"""The command that executes a run: messages on stderr, and the names that users type."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

import primepods
from primepods.runs import ItemProgress, RunRecord, shown_path

from .._shared.copies import describe, measure_and_warn, parse_exclusion, progress
from .._shared.errors import ExitCode, describe_error, exit_code, print_error
from .._shared.offer_options import choose_disks, find_key
from .._shared.table import print_info

if TYPE_CHECKING:
    from primepods.remote import Exclusion

    from .._shared.screen import LiveLine


_BAR_WIDTH = 20


@attrs.define
class Terminal:
    """Host of a run that writes to stderr; see :class:`primepods.runs.RunHost`.

    Attributes:
        command: The name of this command as typed.
        label: What messages begin with; ``None`` for a host that also shows waiting and progress.
    """

    command: str
    label: str | None = None
    _live: LiveLine | None = None

    def labelled(self, label: str) -> Terminal:
        return Terminal(self.command, label)

    def waiting(self, text: str, *, only_live: bool = False) -> None:
        from .._shared.screen import LiveLine, Screen

        if self.label is not None:
            return
        screen = Screen(err=True)
        if screen.is_live:
            self._live = self._live or LiveLine(screen.console)
            self._live.show(text)
        elif text and not only_live:
            print_info(text)

    def show_items(self, progress: ItemProgress) -> None:
        full = _BAR_WIDTH * progress.done // progress.total
        bar = f"{'━' * full}{'─' * (_BAR_WIDTH - full)}"
        self.waiting(f"{bar} {progress}, {progress.running} running", only_live=True)

    def before_output(self) -> bytes:
        # Erase the live line, which is drawn again below the output.
        return b"\r\x1b[2K" if self._live is not None and sys.stdout.isatty() else b""

    def info(self, text: str) -> None:
        print_info(f"{self.label or ''}{text}")

    def problem(self, error: Exception | str) -> int:
        if self.label:
            self.info(describe_error(error))
        else:
            print_error(self.command, error)
        return ExitCode.FAILED if isinstance(error, str) else exit_code(error)

    def progress(
        self, what: str, total: int | None = None
    ) -> AbstractContextManager[Callable[[int], Any] | None]:
        return nullcontext() if self.label is not None else progress(what, total, is_transient=True)

    def exclusion(self, patterns: Sequence[str], files: Sequence[str]) -> Exclusion:
        return parse_exclusion(patterns, map(Path, files))

    def measure(self, local: str, exclusion: Exclusion) -> int:
        size = measure_and_warn(self.command, local, exclusion)
        print_info(f"To upload: {shown_path(local)} ({describe(size)})")
        return size.bytes

    async def resolve(self, client: primepods.AsyncClient, record: RunRecord) -> dict[str, Any]:
        changes = dict(record.changes)
        if "disks" in changes:
            found = choose_disks(changes["disks"], *await client.disks._listed().collect())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as find_disks
            changes["disks"] = [disk.id for disk in found]
        if record.ssh_key is not None:
            changes["ssh_key_id"] = find_key(record.ssh_key, [key async for key in client.ssh_keys.list()])
        return changes
