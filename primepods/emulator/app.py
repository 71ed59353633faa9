"""The aiohttp side: a request object in, a `Call` to the API, its `Reply` out.

Counting and logging on the way.
"""

import asyncio
import re

from aiohttp import web

from primepods.emulator.api import PodsApi
from primepods.emulator.clock import Clock
from primepods.emulator.http import Call, Reply, detail, parse_query
from primepods.emulator.requestlog import Request, RequestLog

_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
REDACTED = "***"


class App:
    """Answers requests from the API; give `handle` to a `Listener`."""

    def __init__(self, api: PodsApi, log: RequestLog, clock: Clock, *, api_key: str, latency: float) -> None:
        self._api = api
        self._log = log
        self._clock = clock
        self._api_key = api_key
        self._latency = latency
        self._in_flight = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        call = await _call(request)
        entry = self._arrived(call)
        self._in_flight += 1
        try:
            # At least one turn of the loop, so that requests which come in together are in flight together.
            await asyncio.sleep(self._latency)
            reply = self._api.answer(call)
            entry.status = reply.status
        finally:
            self._in_flight -= 1
        return _response(reply)

    def refused(self, status: int, message: str) -> web.Response:
        """Log and answer what was no HTTP that could be read."""
        entry = self._arrived(Call(method="UNKNOWN", path="", query=[]))
        entry.status = status
        return _response(detail(status, message))

    def _arrived(self, call: Call) -> Request:
        entry = Request(
            method=call.method,
            path=self._blotted(call.path),
            query=[(self._blotted(key), self._blotted(value)) for key, value in call.query],
            concurrency=self._in_flight + 1,
            time=self._clock.now(),
        )
        self._log.append(entry)
        return entry

    def _blotted(self, text: str) -> str:
        return text.replace(self._api_key, REDACTED)


async def _call(request: web.BaseRequest) -> Call:
    raw, _, raw_query = request.raw_path.partition("?")
    host = request.headers.get("Host", "")
    return Call(
        method=request.method,
        path=raw,
        query=parse_query(raw_query),
        raw_query=raw_query,
        host=host if _HOST.fullmatch(host) else "",
        authorization=request.headers.get("Authorization"),
    )


def _response(reply: Reply) -> web.Response:
    return web.Response(
        status=reply.status, body=reply.body, headers={"Content-Type": "application/json", **reply.headers}
    )
