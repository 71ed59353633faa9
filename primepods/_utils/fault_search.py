"""Which few of many things make a request for all of them fail: found by halving, without any I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

GIVE_UP_AFTER: Final = 8
"""Failures without one success, after which it is not about the things that were asked for."""


class FaultSearch(Generic[T, E]):
    """Finds out for which things a request fails. Ask for what :meth:`next_items` returns, report, repeat.

    Until a request succeeds, things are tried one by one. Then the suspects are halved: when a half fails,
    the other half is presumed innocent, and asked for together with all others that are. One culprit among n
    is found with log2(n) requests and one for the rest. Presumptions that were wrong show themselves as
    failures, and are searched in turn.

    Args:
        items: What a request failed for.
        error: How.

    Attributes:
        error: The last failure.
        failures: How many requests have failed.
        answered: Whether a request has succeeded, here or elsewhere at the same time: else the failures may
            not be about the items at all.
        culprits: What fails alone, with its error.
    """

    def __init__(self, items: list[T], error: E) -> None:
        self.error: E = error
        self.failures: int = 0
        self.answered: bool = False
        self.culprits: dict[T, E] = {}
        self._answers = 0
        # In each group is a culprit, as far as one can tell; the last one is halved first.
        self._groups: list[list[T]] = []
        self._presumed = items
        self.failed(items, error)

    @property
    def undecided(self) -> list[T]:
        """What has neither been answered for nor failed alone."""
        return [item for group in [*self._groups, self._presumed] for item in group]

    @property
    def given_up(self) -> bool:
        """Whether nothing was ever answered: the failures are not about the items."""
        return self.failures >= GIVE_UP_AFTER and not self.answered

    def next_items(self, *, last: bool = False) -> list[T]:
        """Return what to ask for next; nothing when the search is over.

        Args:
            last: There will be a pause after this request: prefer to ask for those presumed innocent.
        """
        undecided = self.undecided
        if self.given_up or not undecided:
            return []
        if not self.answered:
            # Evenly spread: a few culprits cannot be all of these.
            return [undecided[len(undecided) * self.failures // GIVE_UP_AFTER]]
        if not self._groups or (last and self._presumed):
            return self._presumed
        group = self._groups[-1]
        # Where two parts were answered and nothing has failed but the first request, that may have passed.
        return group if self.failures == 1 and self._answers > 1 else group[len(group) // 2 :]

    def passed(self, items: Iterable[T]) -> None:
        """Report that a request for ``items`` was answered."""
        self.answered = True
        self._answers += 1
        self.discard(items)

    def failed(self, items: list[T], error: E) -> None:
        """Report that a request for ``items`` failed."""
        self.error = error
        self.failures += 1
        # Some may have been discarded since they were asked for.
        asked = set(items)
        suspects = [item for item in self.undecided if item in asked]
        for group in self._groups:
            if suspects and suspects[0] in group:
                self._groups.remove(group)
                self._presumed = self._presumed + group
                break
        self.discard(suspects)
        if len(asked) == 1:
            self.culprits.update(dict.fromkeys(suspects, error))
        elif suspects:
            self._groups.append(suspects)

    def discard(self, items: Iterable[T]) -> None:
        """Search no longer for ``items``."""
        removed = set(items)
        groups = ([item for item in group if item not in removed] for group in self._groups)
        self._groups = [group for group in groups if group]
        self._presumed = [item for item in self._presumed if item not in removed]
