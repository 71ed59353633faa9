"""What a run needs from the command that executes it, and the error of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from .._utils.money import money
from ..errors import PrimePodsError

if TYPE_CHECKING:
    from ..client import AsyncClient
    from ..remote import Exclusion
    from ._run import RunRecord

FAILED = 1
USAGE = 2
POD_FAILED = 4
BUDGET_EXCEEDED = 5
INTERRUPTED = 130
SSH_FAILED = 255
"""Exit codes of a run, those of the command."""


class RunError(PrimePodsError):
    """A run cannot continue; ``run_exit_code`` is the run's."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.run_exit_code = exit_code

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.run_exit_code)


@attrs.frozen(kw_only=True)
class ItemProgress:
    """Progress of a run of many items.

    Attributes:
        done: Number of items that have ended, including failed ones.
        failed: Number of items that have ended with another exit code than 0.
        running: Number of items whose commands run.
        booting: Number of pods that cannot be used yet.
        total: Number of items.
        spent: Cost of the run so far.
    """

    done: int
    failed: int
    running: int
    booting: int
    total: int
    spent: float

    def __str__(self) -> str:
        """Return it for a message, such as ``3 of 12 done, 1 failed, $0.42, 2 booting``."""
        failed = f", {self.failed} failed" if self.failed else ""
        booting = f", {self.booting} booting" if self.booting else ""
        return f"{self.done} of {self.total} done{failed}, {money(self.spent)}{booting}"


class RunHost(Protocol):
    """The command that executes a run: it shows messages, and resolves what its user has typed."""

    def info(self, text: str) -> None:
        """Show a message."""
        ...

    def waiting(self, text: str, *, only_live: bool = False) -> None:
        """Show what the run waits for, in a place of its own if there is one; an empty text clears it.

        Args:
            text: The text.
            only_live: Whether to show nothing without such a place, since the text changes often.
        """
        ...

    def problem(self, error: Exception | str) -> int:
        """Show an error after which the run continues, or is ended in order; return the exit code for it."""
        ...

    def progress(
        self, what: str, total: int | None = None
    ) -> AbstractContextManager[Callable[[int], Any] | None]:
        """Show the progress of a copy; the context is the callback for the copied bytes, if there is one."""
        ...

    def measure(self, local: str, exclusion: Exclusion) -> int:
        """Return the size of an upload in bytes, and show it."""
        ...

    def exclusion(self, patterns: Sequence[str], files: Sequence[str]) -> Exclusion:
        """Return the exclusion of some patterns and files with patterns."""
        ...

    def labelled(self, label: str) -> RunHost:
        """Return a host that begins messages with a label, and shows neither waiting nor progress."""
        ...

    def show_items(self, progress: ItemProgress) -> None:
        """Show the progress of a run of many items in a place of its own, if there is one."""
        ...

    def before_output(self) -> bytes:
        """Return what to write before lines of output, to erase what the place of its own shows."""
        ...

    async def resolve(self, client: AsyncClient, record: RunRecord) -> dict[str, Any]:
        """Return the fields of the order, with ids instead of the names of disks and SSH keys."""
        ...
