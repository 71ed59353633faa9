"""Pod names that are the same in all tries of a task."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_MAX_DAG_LENGTH: Final = 15
"""Max characters of the DAG's id in a pod's name."""
_MAX_PREFIX_LENGTH: Final = 28
"""Max characters of a prefix.

With the digest, a name has up to 45, and with the suffix of a lease or of ``max_hours`` up to 63. A longer
name would be shortened, and lose digits of the digest.
"""
_DIGEST_LENGTH: Final = 16
"""Number of hexadecimal digits."""


def pod_name(prefix: str | None, *, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return the name of a task instance's pod, the same in every try.

    ``prefix`` is cut to 28 characters; by default it is ``airflow-`` and the start of the DAG's id.
    ``map_index`` is -1 for a task that is not mapped.
    """
    identity = "\0".join([dag_id, run_id, task_id, str(map_index)])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:_DIGEST_LENGTH]
    if prefix is None:
        dag = re.sub("[^a-z0-9]+", "-", dag_id.lower())[:_MAX_DAG_LENGTH].strip("-")
        prefix = f"airflow-{dag}"
    return f"{prefix[:_MAX_PREFIX_LENGTH].rstrip('-')}-{digest}"
