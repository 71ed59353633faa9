"""Binary search for the items that make a batch request fail, without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

GIVE_UP_AFTER: Final = 8
"""Number of failures without a success after which the search ends."""


class FaultSearch(Generic[T, E]):
    """Search for the items that make a batch request fail.

    The caller requests :meth:`next_items` and reports the result with :meth:`passed` or :meth:`failed`, until
    no items are returned. Until a request succeeds, single items are tried. Then the suspects are halved: if
    one half fails, the other half is presumed good. One request checks all items that are presumed good; if
    it fails, they are searched in turn. One culprit among n takes about log2(n) requests.

    Args:
        items: The items of the failed request.
        error: The request's error.

    Attributes:
        error: The last failure.
        failures: Number of failed requests.
        has_success: Whether a request has succeeded; callers also set it after a success elsewhere. If no
            request has, the items may not be the cause.
        culprits: Errors of the items that fail alone.
    """

    def __init__(self, items: list[T], error: E) -> None:
        self.error: E = error
        self.failures: int = 0
        self.has_success: bool = False
        self.culprits: dict[T, E] = {}
        self._successes = 0
        # Groups of suspects; the last group is halved first.
        self._groups: list[list[T]] = []
        self._presumed_good = items
        self.failed(items, error)

    @property
    def undecided(self) -> list[T]:
        """Suspects, and items that are presumed good."""
        return [item for group in [*self._groups, self._presumed_good] for item in group]

    @property
    def given_up(self) -> bool:
        """Whether there were ``GIVE_UP_AFTER`` failures without a success."""
        return self.failures >= GIVE_UP_AFTER and not self.has_success

    def next_items(self) -> list[T]:
        """Return the items to request next, or an empty list at the end of the search."""
        undecided = self.undecided
        if self.given_up or not undecided:
            return []
        if not self.has_success:
            # Spread the single items evenly, so that adjacent culprits do not fail all of these requests.
            return [undecided[len(undecided) * self.failures // GIVE_UP_AFTER]]
        if not self._groups:
            return self._presumed_good
        group = self._groups[-1]
        if self.failures == 1 and self._successes > 1:
            # Only the first of three or more requests failed, so the cause may be gone.
            return group
        return group[len(group) // 2 :]

    def passed(self, items: Iterable[T]) -> None:
        self.has_success = True
        self._successes += 1
        self.discard(items)

    def failed(self, items: list[T], error: E) -> None:
        self.error = error
        self.failures += 1
        # Some items may have been discarded since the request was sent.
        requested = set(items)
        suspects = [item for item in self.undecided if item in requested]
        for group in self._groups:
            if suspects and suspects[0] in group:
                # The suspects explain the failure of their group: presume its other items good.
                self._groups.remove(group)
                self._presumed_good = self._presumed_good + group
                break
        self.discard(suspects)
        if len(requested) == 1:
            self.culprits.update(dict.fromkeys(suspects, error))
        elif suspects:
            self._groups.append(suspects)

    def discard(self, items: Iterable[T]) -> None:
        removed = set(items)
        groups = ([item for item in group if item not in removed] for group in self._groups)
        self._groups = [group for group in groups if group]
        self._presumed_good = [item for item in self._presumed_good if item not in removed]
