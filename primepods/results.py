"""What calls about many pods return: mappings that also say what is not in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from .errors import PrimePodsError, PrimePodsErrorGroup
from .models import PodState, PodStatus


class PodStatuses(Mapping[str, PodStatus]):
    """The status of many pods: a mapping from pod id to :class:`PodStatus`, in the order asked.

    Attributes:
        missing: Ids for which the API had no row: gone, not visible yet, or never there.
        errors: Ids of which nothing could be found out, with the error of each: mostly an
            :class:`~primepods.APIError` (the API refused the id, or fails because of it) or a
            :class:`~primepods.ProtocolError` (its row cannot be read). It proves nothing about the pod.
    """

    def __init__(
        self,
        rows: Mapping[str, PodStatus],
        *,
        missing: tuple[str, ...] = (),
        errors: Mapping[str, PrimePodsError] = MappingProxyType({}),
    ) -> None:
        self._rows = dict(rows)
        self.missing: tuple[str, ...] = missing
        self.errors: Mapping[str, PrimePodsError] = dict(errors)

    def __getitem__(self, pod_id: str) -> PodStatus:
        return self._rows[pod_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<PodStatuses: {len(self)} rows, {len(self.missing)} missing, {len(self.errors)} errors>"


class Deletions(Mapping[str, PodState]):
    """What became of many deletions: a mapping from pod id to the state that the API answered.

    Attributes:
        errors: The pods that were not deleted, with the error of each. They may still be billed.
    """

    def __init__(self, states: Mapping[str, PodState], *, errors: Mapping[str, PrimePodsError]) -> None:
        self._states = dict(states)
        self.errors: Mapping[str, PrimePodsError] = dict(errors)

    def __getitem__(self, pod_id: str) -> PodState:
        return self._states[pod_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def __repr__(self) -> str:
        return f"<Deletions: {len(self)} accepted, {len(self.errors)} errors>"

    def raise_for_errors(self) -> None:
        """Do nothing if every deletion was accepted.

        Raises:
            PrimePodsError: One deletion was not accepted: its own error, to be caught by its kind.
            PrimePodsErrorGroup: Several were not; ``except*`` finds them by kind.
        """
        errors = list(self.errors.values())
        if not errors:
            return
        if len(errors) == 1:
            raise errors[0]
        shown = "; ".join(f"{pod_id}: {error}" for pod_id, error in list(self.errors.items())[:5])
        total = len(self) + len(errors)
        msg = (
            f"{len(errors)} of {total} pods were not deleted and may still be billed: {shown}. "
            "See `.errors` for all, and try those ids again."
        )
        raise PrimePodsErrorGroup(msg, errors)
