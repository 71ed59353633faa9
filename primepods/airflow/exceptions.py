"""Errors of tasks about pods. A task that no retry can help raises ``AirflowFailException`` instead."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException


class PodTaskError(AirflowException):
    """A task about a pod has failed. A retry may help."""


class PodTimeoutError(PodTaskError):
    """A pod was not ready, or not gone, in time. A retry continues to wait."""
