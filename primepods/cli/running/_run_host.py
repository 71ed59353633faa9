"""The command that executes a run: messages on stderr, and the names that users type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

import primepods
from primepods.runs import RunRecord, shown_path

from .._shared.copies import describe, measure_and_warn, parse_exclusion, progress
from .._shared.errors import ExitCode, exit_code, print_error
from .._shared.offer_options import check_permission, choose_disks, find_key
from .._shared.table import print_info

if TYPE_CHECKING:
    from primepods.remote import Exclusion

    from .._shared.screen import LiveLine


@attrs.define
class Terminal:
    """Host of a run that writes to stderr; see :class:`primepods.runs.RunHost`.

    Attributes:
        command: The name of this command as typed.
    """

    command: str
    _live: LiveLine | None = None

    def waiting(self, text: str) -> None:
        from .._shared.screen import LiveLine, Screen, stderr_console

        screen = Screen(stderr_console())
        if screen.is_live:
            self._live = self._live or LiveLine(screen.console)
            self._live.show(text)
        elif text:
            print_info(text)

    def info(self, text: str) -> None:
        print_info(text)

    def problem(self, error: Exception | str) -> int:
        print_error(self.command, error)
        return ExitCode.FAILED if isinstance(error, str) else exit_code(error)

    def progress(
        self, what: str, total: int | None = None
    ) -> AbstractContextManager[Callable[[int], Any] | None]:
        return progress(what, total, is_transient=True)

    def exclusion(self, patterns: Sequence[str], files: Sequence[str]) -> Exclusion:
        return parse_exclusion(patterns, map(Path, files))

    def measure(self, local: str, exclusion: Exclusion) -> int:
        size = measure_and_warn(self.command, local, exclusion)
        print_info(f"To upload: {shown_path(local)} ({describe(size)})")
        return size.bytes

    async def resolve(self, client: primepods.AsyncClient, record: RunRecord) -> dict[str, Any]:
        changes = dict(record.changes)
        with suppress(primepods.PrimePodsError):
            check_permission(await client.account.whoami(), "instances")
        if "disks" in changes:
            found = choose_disks(changes["disks"], *await client.disks._listed().collect())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as find_disks
            changes["disks"] = [disk.id for disk in found]
        if record.ssh_key is not None:
            changes["ssh_key_id"] = find_key(record.ssh_key, [key async for key in client.ssh_keys.list()])
        return changes
