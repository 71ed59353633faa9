"""What Airflow reads of this provider each time one of its commands starts: it must import nothing slow."""

from typing import Any

_NAME = "Prime Intellect"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, as Airflow's schema wants it."""
    return {
        "package-name": "primepods",
        "name": _NAME,
        "description": "GPU pods on `Prime Intellect <https://www.primeintellect.ai/>`__.",
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://docs.primeintellect.ai/api-reference/managing-pods",
                "tags": ["service"],
            }
        ],
        "operators": [_modules("operators")],
        "sensors": [_modules("sensors")],
        "hooks": [_modules("hooks")],
        "triggers": [_modules("triggers")],
        "connection-types": [
            {
                "connection-type": "prime",
                "hook-class-name": "primepods.airflow.hooks.PrimePodsHook",
                "hook-name": _NAME,
            }
        ],
        "extra-links": ["primepods.airflow.operators.PrimePodsLink"],
    }


def _modules(name: str) -> dict[str, Any]:
    return {"integration-name": _NAME, "python-modules": [f"primepods.airflow.{name}"]}
