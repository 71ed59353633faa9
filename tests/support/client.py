"""A client of a server in the same process, on a clock of the test's own."""

from __future__ import annotations

from typing import Any

import aiohttp
import attrs

import primepods
from primepods._http.sessions import SessionFactory
from primepods._http.transport import Transport
from primepods._utils.clock import Clock

KEY = "pit_wire_test_key+0123456789abcdef"
"""A key that stands nowhere else: whatever contains it has leaked it."""


def make_client(
    url: str,
    *,
    clock: Clock | None = None,
    session: aiohttp.ClientSession | SessionFactory | None = None,
    api_key: str = KEY,
    **options: Any,
) -> primepods.AsyncClient:
    """A client of ``url``; ``clock`` is the one thing that its constructor does not take."""
    client = primepods.AsyncClient(api_key, base_url=url, session=session, **options)
    if clock is not None:
        settings = attrs.evolve(client._executor.settings, clock=clock)
        client._assemble(settings, Transport(settings, session), is_owner=True)
    return client
