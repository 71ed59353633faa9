"""Prefect block for the API key."""

from __future__ import annotations

from typing import ClassVar

from prefect.blocks.abstract import CredentialsBlock
from pydantic import Field, HttpUrl, SecretStr

from .. import AsyncClient


class PrimeCredentials(CredentialsBlock):
    """Credentials for Prime Intellect.

    Prefect encrypts the key in its database, and shows stars instead of it.

    Attributes:
        api_key: The API key, with the permission Instances (Read and Write).
        team_id: Id of the team that pays; by default ``PRIME_TEAM_ID`` or the worker's ``~/.prime`` settings.
        base_url: The API's base URL; by default that of the worker's settings, or the public one.

    Example:
        Load stored credentials:
        ```python
        from primepods.prefect import PrimeCredentials

        credentials = PrimeCredentials.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Prime Credentials"
    _block_type_slug: ClassVar[str | None] = "prime-credentials"
    _description: ClassVar[str | None] = "Log in to Prime Intellect to rent GPU pods."
    # This is the vendor's page, since our guide has no public address yet. `_logo_url` is not set: no
    # permanent address of a logo is known.
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://docs.primeintellect.ai/api-reference/api-keys"
    )

    api_key: SecretStr = Field(
        title="API Key", description="An API key with the permission Instances (Read and Write)."
    )
    team_id: str | None = Field(
        default=None,
        title="Team ID",
        description="The team that pays. Default: PRIME_TEAM_ID or the ~/.prime settings of the worker.",
    )
    base_url: str | None = Field(
        default=None,
        title="Base URL",
        description="Address of the API; by default that of the worker's settings, or the public one.",
    )

    def get_client(self) -> AsyncClient:
        """Return a client with these credentials.

        Raises:
            ConfigError: The credentials or the worker's settings are invalid.
        """
        return AsyncClient(self.api_key.get_secret_value(), base_url=self.base_url, team_id=self.team_id)
