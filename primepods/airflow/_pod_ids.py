"""Pod ids as tasks get them: from XComs and templates, where a missing value renders to the text "None"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow.providers.common.compat.sdk import AirflowFailException, XComArg

PodId = str | Mapping[str, Any] | XComArg
"""A pod's id, or what the create operator returns, whose ``id`` it is; or an output that will be either."""

_MISSING: Final = frozenset({"", "none", "null", "undefined", "nan"})
"""What a template makes of a value that is not there, in any case."""


def is_missing(pod_id: PodId | None) -> bool:
    """Return whether no pod is named: the task that should have returned the id has returned nothing."""
    found = pod_id.get("id") if isinstance(pod_id, Mapping) else pod_id
    return found is None or (isinstance(found, str) and found.strip().lower() in _MISSING)


def id_of(pod_id: PodId) -> str:
    """Return the id of a pod, or of the create operator's output.

    Raises:
        AirflowFailException: There is none, as when that task has returned nothing.
    """
    found = pod_id.get("id") if isinstance(pod_id, Mapping) else pod_id
    if not isinstance(found, str) or is_missing(pod_id):
        raise AirflowFailException(
            f"pod_id must be a pod's id, or what the create task returns, got {pod_id!r}. If that task has "
            "run, its pod may be running and billed: look for it with `primepods list`."
        )
    return found
