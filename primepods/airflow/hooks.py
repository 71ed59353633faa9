"""The connection of type ``prime``, and clients made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import BaseHook, Connection
from asgiref.sync import sync_to_async

from .. import AsyncClient, Client, PrimePodsError
from .get_provider_info import CONNECTION_FORM

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", Client, AsyncClient)


class PrimePodsHook(BaseHook):
    """Clients for an Airflow connection of type ``prime``.

    Its host is the API's base URL (default: the vendor's), its password the API key, its login the team.
    What it lacks is looked for as by every client: in the environment, then in the official command's files.

    Args:
        prime_conn_id: The connection's id.
    """

    conn_name_attr = "prime_conn_id"
    default_conn_name: ClassVar[str] = "prime_default"
    conn_type = "prime"
    hook_name = "Prime Intellect"

    def __init__(self, prime_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.prime_conn_id = prime_conn_id

    def get_conn(self) -> Client:
        """Return a blocking client, to be closed by the caller.

        Raises:
            AirflowNotFoundException: There is no such connection.
            ConfigError: It holds no key, or a URL or key that cannot be used.
        """
        return _connect(Client, self.get_connection(self.prime_conn_id))

    async def get_async_conn(self) -> AsyncClient:
        """Return an asynchronous client, to be closed by the caller; raises as :meth:`get_conn`."""
        return _connect(AsyncClient, await ask_airflow(self.get_connection, self.prime_conn_id))

    def test_connection(self) -> tuple[bool, str]:
        """Ask the API for a page of pods: what the button of the connection's form does."""
        try:
            with self.get_conn() as client:
                count = client.pods.page(limit=1).total_count
        except PrimePodsError as exc:
            return False, str(exc)
        return True, f"The API answers: this account has {count} pods."

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form of a connection looks: newer Airflows read it in the provider's info."""
        return {name.replace("-", "_"): value for name, value in CONNECTION_FORM.items()}


async def ask_airflow(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call what asks the parent process, from a trigger.

    In a thread, because below Airflow 3.3.2 its own asynchronous calls fail where two are under way. And to
    the end, whatever becomes of the trigger: in 3.1 an answer that nobody takes ends the whole triggerer.
    """
    return await asyncio.shield(sync_to_async(function)(*args, **kwargs))


def _connect(kind: type[T], connection: Connection) -> T:
    host = connection.host or None
    if host is not None and "://" not in host:
        # Written as prime://team:key@host:port, which has no place for the scheme but the path.
        port = f":{connection.port}" if connection.port else ""
        host = f"{connection.schema or 'https'}://{host}{port}"
    return kind(connection.password or None, base_url=host, team_id=connection.login or None)
