"""Provider metadata. Airflow imports this module with every command, so it must not import slow modules."""

from typing import Any, Final

from .. import __version__

_NAME: Final = "Prime Intellect"
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
        # The vendor's page, since our guide has no public address yet.
        "documentation-url": "https://docs.primeintellect.ai/api-reference/managing-pods",
        "description": "GPU pods on `Prime Intellect <https://www.primeintellect.ai/>`__.",
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
