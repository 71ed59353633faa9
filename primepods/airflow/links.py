"""Links on tasks in Airflow's UI."""

from __future__ import annotations

from typing import Any, Final

from airflow.providers.common.compat.sdk import BaseOperatorLink

PODS_PAGE: Final = "https://app.primeintellect.ai/dashboard/pods"


class PrimePodsLink(BaseOperatorLink):
    """Button on a task that opens the vendor's page of all pods; no page of a single pod is documented.

    Airflow shows it when the task has ended, and the operators that rent a pod as soon as there is one.
    """

    name = "Prime Intellect"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the page's URL."""
        del operator, ti_key
        return PODS_PAGE
