"""Provider metadata. Airflow imports this module with every command, so it must not import slow modules."""

from typing import Any, Final

from .. import __version__

_NAME: Final = "Prime Intellect"
_DOCUMENTATION: Final = "https://docs.primeintellect.ai/api-reference/managing-pods"
"""The vendor's page, since our guide has no public address yet."""
CONNECTION_FORM: Final[dict[str, Any]] = {
    "hidden-fields": ["schema", "port", "extra"],
    "relabeling": {"host": "Base URL", "password": "API key", "login": "Team ID"},
    "placeholders": {"host": "https://api.primeintellect.ai", "login": "none: your own account"},
}
"""Layout of the connection form."""


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in Airflow's schema."""
    return {
        "package-name": "primepods",
        "name": _NAME,
        "versions": [__version__],
        "documentation-url": _DOCUMENTATION,
        "description": "GPU pods on `Prime Intellect <https://www.primeintellect.ai/>`__.",
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": _DOCUMENTATION,
                "how-to-guide": ["/primepods/airflow/README.md"],
                "logo": "/primepods/airflow/logo.svg",
                "tags": ["service"],
            }
        ],
        "operators": [_modules("operators")],
        "sensors": [_modules("sensors")],
        "hooks": [_modules("hooks")],
        "triggers": [_modules("triggers")],
        "task-decorators": [
            {"name": "prime_pod", "class-name": "primepods.airflow.decorators.prime_pod_task"}
        ],
        "connection-types": [
            {
                "connection-type": "prime",
                "hook-class-name": "primepods.airflow.hooks.PrimePodsHook",
                "hook-name": _NAME,
                "ui-field-behaviour": CONNECTION_FORM,
            }
        ],
        "extra-links": ["primepods.airflow.links.PrimePodsLink"],
    }


def _modules(name: str) -> dict[str, Any]:
    return {"integration-name": _NAME, "python-modules": [f"primepods.airflow.{name}"]}
