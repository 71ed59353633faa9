"""Pod ids from XComs and templates, in which a missing value may be a text such as "None"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow.providers.common.compat.sdk import AirflowFailException, XComArg

PodId = str | Mapping[str, Any] | XComArg
"""A pod's id, the create operator's output, or an ``XComArg`` that Airflow replaces with one of these."""

_MISSING: Final = frozenset({"", "none", "null", "undefined", "nan"})
"""Rendered forms of a missing value, in lower case."""


def is_missing(pod_id: PodId | None) -> bool:
    value = pod_id.get("id") if isinstance(pod_id, Mapping) else pod_id
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING)


def id_of(pod_id: PodId) -> str:
    """Return the pod's id, also from the create operator's output.

    Raises:
        AirflowFailException: The id is missing, or is not a string.
    """
    value = pod_id.get("id") if isinstance(pod_id, Mapping) else pod_id
    if not isinstance(value, str) or is_missing(pod_id):
        raise AirflowFailException(
            f"pod_id must be a pod's id, or the output of the create task, got {pod_id!r}. If that task has "
            "run, its pod may be running and billed: look for it with `primepods list`."
        )
    return value
