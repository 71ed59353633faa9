"""The aiohttp side: a request object in, a `Call` to the API, its `Reply` out.

On the way every request is logged, and whatever the fault plan has in store for it happens to it.
"""

import asyncio
import re
import socket
import struct
import sys
from urllib.parse import unquote

from aiohttp import web
from attrs import evolve

from .._api.api import Target
from .._api.http import Call, Refused, Reply, detail, parse_query
from ..control import CONTROL, Control
from ..core import Core
from ..faults import Fault, Raw
from ..requestlog import Request

_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
_ORIGIN = re.compile(r"^https?://[^/]*", re.IGNORECASE)
_WITH_BODY = {"POST", "PUT", "PATCH"}
_NOTHING = Reply(200, b"")
# Linger for no time at all: closing then resets. Windows spells the structure with shorts.
_RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
REDACTED = "***"


class App:
    """Answers requests; give `handle` and `refused` to a `Listener`."""

    def __init__(self, core: Core, control: Control | None, *, api_key: str, latency: float) -> None:
        self._api = core.api
        self._faults = core.faults
        self._log = core.requests
        self._clock = core.clock
        self._control = control
        self._api_key = api_key
        self._latency = latency
        self._in_flight = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        call = _call(request)
        if self._control is not None and call.path.startswith(CONTROL):
            return await _controlled(self._control, request, call)
        target = self._api.target(call)
        name = target.route.name if isinstance(target, Target) else None
        faults = self._faults.pick(call, name, self._clock.now())
        entry = self._arrived(call, faults)
        self._in_flight += 1
        try:
            outcome = await self._outcome(request, call, target, faults)
            entry.status = outcome.status
            if isinstance(outcome, Reply):
                return _response(outcome)
            await self._send(request, outcome)
        finally:
            self._in_flight -= 1
        # The connection is closed: aiohttp drops what it gets.
        return web.Response()

    def refused(self, status: int, message: str) -> web.Response:
        """Log and answer what was no HTTP that could be read."""
        entry = self._arrived(Call(method="UNKNOWN", path="", query=[]), [])
        entry.status = status
        return _response(detail(status, message))

    async def _outcome(
        self, request: web.BaseRequest, call: Call, target: Target | Reply, faults: list[Fault]
    ) -> Reply | Raw:
        # At least one turn of the loop, so that requests which come in together are in flight together.
        await asyncio.sleep(self._latency)
        try:
            call = await _with_body(request, call)
        except Refused as refused:
            return refused.reply
        except ConnectionError:
            # The client left before it had said what it wants.
            return Raw(None)
        for fault in faults:
            if fault.waits:
                await self._clock.sleep(fault.waits)
        reply = _NOTHING
        if all(fault.reaches for fault in faults):
            call = evolve(call, lag=sum(fault.lags for fault in faults))
            reply = target if isinstance(target, Reply) else self._api.answer(call, target)
        return faults[-1].outcome(reply) if faults else reply

    async def _send(self, request: web.BaseRequest, raw: Raw) -> None:
        transport = request.transport
        if transport is None:
            return
        for index, piece in enumerate(raw.pieces):
            if index and raw.pause:
                await self._clock.sleep(raw.pause)
            if transport.is_closing():
                return
            transport.write(piece)
        if raw.reset:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        else:
            transport.close()

    def _arrived(self, call: Call, faults: list[Fault]) -> Request:
        entry = Request(
            method=call.method,
            path=self._blotted(call.path),
            query=[(self._blotted(key), self._blotted(value)) for key, value in call.query],
            concurrency=self._in_flight + 1,
            time=self._clock.now(),
            faults=[type(fault).__name__ for fault in faults],
        )
        self._log.append(entry)
        return entry

    def _blotted(self, text: str) -> str:
        plain = unquote(text) if "%" in text else text
        return plain.replace(self._api_key, REDACTED) if self._api_key in plain else text


async def _controlled(control: Control, request: web.BaseRequest, call: Call) -> web.Response:
    try:
        return _response(control.answer(await _with_body(request, call)))
    except Refused as refused:
        return _response(refused.reply)
    except ConnectionError:
        # The client left in the middle: aiohttp drops what it gets.
        return web.Response()


def _call(request: web.BaseRequest) -> Call:
    raw, _, raw_query = request.raw_path.partition("?")
    # To a proxy, and so to any server, the whole URL may be sent.
    raw = _ORIGIN.sub("", raw)
    host = request.headers.get("Host", "")
    return Call(
        method=request.method,
        path=raw,
        query=parse_query(raw_query),
        raw_query=raw_query,
        host=host if _HOST.fullmatch(host) else "",
        authorization=request.headers.get("Authorization"),
    )


async def _with_body(request: web.BaseRequest, call: Call) -> Call:
    """Read the body where one counts; raises `Refused` for one that is too long or garbled."""
    if call.method not in _WITH_BODY:
        return call
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        return evolve(call, body=await request.read())
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused(detail(413, "Request body too large")) from error
    except web.RequestPayloadError as error:
        raise Refused(detail(400, "Request body could not be read")) from error


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": "application/json", **reply.headers}
    return web.Response(status=reply.status, body=reply.body, headers=headers)
