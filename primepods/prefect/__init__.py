"""Worker for Prefect 3.9 or newer that runs each flow run on its own GPU pod; needs the extra ``prefect``.

``prefect worker start --pool gpus --type prime-pod`` finds the worker by its entry point in the group
``prefect.collections``. See ``README.md`` in this folder.
"""

from ._configuration import PrimePodJobConfiguration, PrimePodVariables
from ._credentials import PrimeCredentials
from ._worker import PrimePodWorker, PrimePodWorkerResult

__all__ = [
    "PrimeCredentials",
    "PrimePodJobConfiguration",
    "PrimePodVariables",
    "PrimePodWorker",
    "PrimePodWorkerResult",
]
