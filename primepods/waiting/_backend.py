"""What the shared poller asks the API, through connections of its own."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import attrs

from .._decoding.rows import decode_pod
from .._http.executor import RequestExecutor
from .._http.request import chunk_ids, pod_request
from .._http.transport import Transport
from .._status_reader import Answer, StatusReader
from ..config import Settings
from ..models import Pod
from ..retry import RetryPolicy

_ONCE = RetryPolicy(attempts=1)
# A batch may have to wait until the batches before it have had their attempts.
_PATIENCE = 3600.0
_CACHE_BYTES = 32 * 1024 * 1024


class HubBackend:
    """Implements :class:`primepods.waiting._hub.Backend`.

    Args:
        settings: The settings of the clients that share the hub.
        session: Their own aiohttp session, or ``None``.
    """

    def __init__(self, settings: Settings, session: Any) -> None:
        self.clock = settings.clock
        self.concurrency = settings.max_concurrency
        self.lookups = max(1, settings.max_concurrency // 4)
        self._transport = Transport(settings, session)
        once = attrs.evolve(settings, deadline=_PATIENCE, retry=_ONCE)
        self._executor = RequestExecutor(once, self._transport)
        self._statuses = StatusReader(self._executor, cache_bytes=_CACHE_BYTES)
        self._prefix = urlsplit(settings.base_url).path

    def chunks(self, pod_ids: Iterable[str]) -> list[list[str]]:
        """Split ids into requests of at most 100."""
        return list(chunk_ids(list(pod_ids), prefix=self._prefix))

    async def statuses(self, pod_ids: list[str]) -> Answer:
        """Ask for one chunk, once."""
        return await self._statuses.read_chunk(pod_ids)

    async def pod(self, pod_id: str) -> Pod:
        """Ask for one pod, once."""
        return await self._executor.call(pod_request("GET", pod_id), partial(decode_pod, pod_id=pod_id))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def hub_key(settings: Settings, session: Any) -> object:
    """Return what must be equal for two clients to share a hub.

    How often and how long a call is retried makes no difference: the hub's next tick is its retry.
    """
    return attrs.evolve(settings, deadline=_PATIENCE, retry=_ONCE), session
