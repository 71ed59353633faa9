"""Results of calls for many pods: mappings that also report the pods without a value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from ._utils.money import money
from ._utils.plain import summary_fields, to_plain
from ._utils.summaries import html_table
from .errors import PrimePodsError, PrimePodsErrorGroup
from .models import PodState, PodStatus

V = TypeVar("V")


class _ByPod(Mapping[str, V]):
    def __init__(self, values: Mapping[str, V], errors: Mapping[str, PrimePodsError]) -> None:
        self._values = dict(values)
        self.errors: Mapping[str, PrimePodsError] = dict(errors)

    def __getitem__(self, pod_id: str) -> V:
        return self._values[pod_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class PodStatuses(_ByPod[PodStatus]):
    """Status of many pods: a mapping from pod id to :class:`PodStatus`, in the order of the request.

    Attributes:
        missing: Ids without a row in the response: the pod is gone, not visible yet, or never existed.
        errors: Errors of the pods whose status is unknown, by id. An :class:`~primepods.APIError` may mean
            that the API refuses the id, and a :class:`~primepods.ProtocolError` that the pod's row cannot be
            read. An error proves nothing about the pod.
    """

    def __init__(
        self,
        rows: Mapping[str, PodStatus],
        *,
        missing: tuple[str, ...] = (),
        errors: Mapping[str, PrimePodsError] = MappingProxyType({}),
    ) -> None:
        super().__init__(rows, errors)
        self.missing: tuple[str, ...] = missing

    def __repr__(self) -> str:
        return f"<PodStatuses: {len(self)} rows, {len(self.missing)} missing, {len(self.errors)} errors>"

    @property
    def cost_per_hr(self) -> float:
        """Total price of these pods per hour, without pods whose price the API does not report."""
        return math.fsum(row.cost_per_hr or 0.0 for row in self.values())

    def to_dict(self) -> dict[str, Any]:
        """Return ``statuses``, ``missing``, ``errors`` and ``cost_per_hr`` as values for JSON."""
        parts = {"statuses": self._values, "missing": self.missing, "errors": self.errors}
        return {name: to_plain(part) for name, part in parts.items()} | {
            "cost_per_hr": to_plain(self.cost_per_hr)
        }

    def _repr_html_(self) -> str:
        names = summary_fields(PodStatus)
        rows = [[getattr(row, name) for name in names] for row in self.values()]
        rows += [[pod_id, "no row"] for pod_id in self.missing]
        rows += [[pod_id, f"error: {error}"] for pod_id, error in self.errors.items()]
        return html_table(f"{repr(self)[1:-1]}, {money(self.cost_per_hr)} an hour", names, rows)


class Deletions(_ByPod[PodState]):
    """Result of many deletions: a mapping from pod id to DELETING or TERMINATED.

    Attributes:
        errors: Errors of the pods whose deletion is not confirmed, by pod id. These pods may still be billed.
    """

    def __init__(self, states: Mapping[str, PodState], *, errors: Mapping[str, PrimePodsError]) -> None:
        super().__init__(states, errors)

    def __repr__(self) -> str:
        return f"<Deletions: {len(self)} confirmed, {len(self.errors)} errors>"

    def to_dict(self) -> dict[str, Any]:
        """Return ``states`` and ``errors`` as values for JSON."""
        return {"states": to_plain(self._values), "errors": to_plain(self.errors)}

    def _repr_html_(self) -> str:
        failed = [(pod_id, "may still be billed", error) for pod_id, error in self.errors.items()]
        rows = [*failed, *((pod_id, state, None) for pod_id, state in self.items())]
        return html_table(repr(self)[1:-1], ("pod_id", "state", "error"), rows)

    def raise_for_errors(self) -> None:
        """Raise the errors, if there are any.

        Raises:
            PrimePodsError: The error, if there is only one.
            PrimePodsErrorGroup: The errors, if there are several.
        """
        errors = list(self.errors.values())
        if not errors:
            return
        if len(errors) == 1:
            # Drop the traceback of an earlier call: Python would append this call's frames to it.
            raise errors[0].with_traceback(None)
        first_errors = list(self.errors.items())[:5]
        examples = "; ".join(f"{pod_id}: {error}".rstrip(".") for pod_id, error in first_errors)
        total = len(self) + len(errors)
        raise PrimePodsErrorGroup(
            f"The deletion of {len(errors)} of {total} pods is not confirmed, so they may still be billed. "
            f"The errors include {examples}. Delete these pods again.",
            errors,
        )
