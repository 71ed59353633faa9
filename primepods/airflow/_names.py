"""Pod names: stable across the tries of a task."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_MAX_DAG_LENGTH: Final = 15
"""Max characters of the DAG's id in a pod's name."""
_MAX_PREFIX_LENGTH: Final = 28
"""Max characters of a prefix.

With a hyphen and the digest, a name has 45 at most. A lease or ``max_hours`` appends up to 18 more, and would
cut the digest if the result were longer than 63.
"""
_DIGEST_LENGTH: Final = 16
"""Number of hexadecimal digits that distinguish tasks."""


def pod_name(prefix: str | None, *, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return the name of a task's pod: the same in every try, and different for other tasks.

    Args:
        prefix: Prefix of the name, of which 28 characters are used; default: ``airflow-`` and the start
            of the DAG's id.
        dag_id: The DAG's id.
        run_id: The DAG run's id.
        task_id: The task's id.
        map_index: Index of a mapped task; -1 for one that is not mapped.
    """
    identity = "\0".join([dag_id, run_id, task_id, str(map_index)])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:_DIGEST_LENGTH]
    if prefix is None:
        dag = re.sub("[^a-z0-9]+", "-", dag_id.lower())[:_MAX_DAG_LENGTH].strip("-")
        prefix = f"airflow-{dag}"
    return f"{prefix[:_MAX_PREFIX_LENGTH].rstrip('-')}-{digest}"
