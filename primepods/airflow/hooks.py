"""Hook for connections of type ``prime``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import BaseHook, Connection
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from asgiref.sync import sync_to_async

from .. import AsyncClient, Client, PrimePodsError
from ..events import OnEvent
from .get_provider_info import CONNECTION_FORM

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", Client, AsyncClient)


class PrimePodsHook(BaseHook):
    """Hook that creates clients from an Airflow connection of type ``prime``.

    The host is the API's base URL, the password is the API key, and the login is the team's id. Missing
    values come from the environment, then from the files of ``prime``, then from the client's defaults.

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

    def get_conn(self, *, on_event: OnEvent | None = None) -> Client:
        """Return a blocking client; the caller must close it.

        Args:
            on_event: Callback of the client.

        Raises:
            AirflowNotFoundException: The connection does not exist.
            ConfigError: The key is missing, or a setting is invalid.
        """
        return _connect(Client, self._connection, on_event)

    @cached_property
    def _connection(self) -> Connection:
        return self.get_connection(self.prime_conn_id)

    async def get_async_conn(self) -> AsyncClient:
        """Return an asynchronous client; the caller must close it. Raises the errors of :meth:`get_conn`."""
        return _connect(AsyncClient, await ask_airflow(self.get_connection, self.prime_conn_id))

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection with a request for pods, for the button in the connection form."""
        try:
            with self.get_conn() as client:
                count = client.pods.page(limit=1).total_count
        except PrimePodsError as exc:
            return False, str(exc)
        return (
            True,
            "The API responds." if count is None else f"The API responds: this account has {count} pods.",
        )

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the connection form's layout, for Airflow versions that do not read the provider info."""
        return {name.replace("-", "_"): value for name, value in CONNECTION_FORM.items()}


async def ask_airflow(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """In a trigger, call Airflow code that requests data from the parent process.

    The call runs in a thread, because concurrent asynchronous calls fail before Airflow 3.3.2. It completes
    even if the trigger is cancelled, because an unread response ends the whole triggerer in 3.1.
    """
    return await asyncio.shield(sync_to_async(function)(*args, **kwargs))


def state_of(task: Any) -> str | None:
    """Return Airflow's state of a task instance; ``None`` if it has none, for example because it was cleared.

    It requests the state from the parent process; in a trigger, use :func:`ask_airflow`.
    """
    states = RuntimeTaskInstance.get_task_states(
        dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id], map_index=task.map_index
    )
    return next(iter(states.get(task.run_id, {}).values()), None)


def _connect(kind: type[T], connection: Connection, on_event: OnEvent | None = None) -> T:
    host = connection.host or None
    if host is not None and "://" not in host:
        # In prime://team:key@host:port/http, the path is the scheme; Airflow calls it `schema`.
        port = f":{connection.port}" if connection.port else ""
        host = f"{connection.schema or 'https'}://{host}{port}"
    key, team_id = connection.password or None, connection.login or None
    return kind(key, base_url=host, team_id=team_id, on_event=on_event)
