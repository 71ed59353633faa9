"""Links on tasks in Airflow's UI."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseOperatorLink


class PrimePodsLink(BaseOperatorLink):
    """Button on a task that opens the vendor's page of all pods; no page of a single pod is documented."""

    name = "Prime Intellect"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the page's URL."""
        return "https://app.primeintellect.ai/dashboard/pods"
