"""Request handler between aiohttp and the API, with the request log and the fault plan.

Requests to control routes are not logged, and no fault affects them.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
from datetime import UTC, timedelta
from email.utils import format_datetime
from urllib.parse import unquote

import attrs
from aiohttp import web

from .._api.api import Api, Target
from .._api.http import Call, Response, detail, parse_query
from ..clock import Clock
from ..control import PREFIX, Control
from ..faultplan import FaultPlan
from ..faults import Delay, Fault, Raw
from ..requestlog import Request as LoggedRequest
from ..requestlog import RequestLog
from .loopback import is_loopback_header

REDACTED = "***"
GPUS = f"{PREFIX}gpus/"
"""Prefix of the node's address, for the emulated ``nvidia-smi``; needs no key."""
_ORIGIN = re.compile(r"^https?://[^/]*", re.IGNORECASE)
_METHODS_WITH_BODY = {"POST", "PUT", "PATCH"}
_FORBIDDEN = detail(
    403, "The Host header names another server. Use localhost or a loopback address, such as 127.0.0.1"
)
# With a linger time of 0, closing the socket sends a reset. On Windows, the two numbers are shorts.
_RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@attrs.define(kw_only=True, eq=False)
class App:
    """Request handler of one emulator; a ``Listener`` serves it."""

    api: Api
    api_key: str = attrs.field(repr=False)
    clock: Clock
    faults: FaultPlan
    requests: RequestLog
    control: Control | None
    latency: float
    """Minimum response time, in real seconds."""
    _in_flight: int = 0

    async def handle(self, http_request: web.BaseRequest) -> web.StreamResponse:
        request = _parse_request(http_request)
        if not is_loopback_header(request.host):
            return self._refuse(request, _FORBIDDEN)
        if request.path.startswith(GPUS):
            return self._response(self.api.pods.gpus(request.path.removeprefix(GPUS)))
        if self.control is not None and request.path.startswith(PREFIX):
            response = await _read_body(http_request, request)
            if isinstance(response, Call):
                response = self.control.respond(response)
            return await self._respond(http_request, response)
        target = self.api.resolve(request)
        faults = self.faults.pick(request, target.operation, self.clock.now())
        entry = self._log(request, faults, target.operation)
        self._in_flight += 1
        try:
            outcome = await self._outcome(http_request, request, target, faults, entry.time)
            entry.status = outcome.status
            return await self._respond(http_request, outcome)
        finally:
            self._in_flight -= 1

    def refuse_invalid(self, status: int, message: str) -> web.Response:
        """Log invalid HTTP, or a failure to handle a request, and return the error response."""
        return self._refuse(Call(method="UNKNOWN", path="", query=[]), detail(status, message))

    def _refuse(self, request: Call, response: Response) -> web.Response:
        self._log(request, []).status = response.status
        return self._response(response)

    async def _outcome(
        self,
        http_request: web.BaseRequest,
        request: Call,
        target: Target,
        faults: list[Fault],
        arrived_at: float,
    ) -> Response | Raw:
        # Yield to the loop at least once, so that simultaneous requests count as in flight together.
        await asyncio.sleep(self.latency)
        request_or_error = await _read_body(http_request, request)
        if not isinstance(request_or_error, Call):
            return request_or_error
        delay = sum(fault.seconds for fault in faults if isinstance(fault, Delay))
        if delay:
            # Count from the arrival: a test may have moved the clock since the request was logged.
            await self.clock.sleep(arrived_at + delay - self.clock.now())
        response = self._call_api(target, request_or_error, faults)
        # Only the `outcome` of the last fault is used; see `FaultPlan.pick`.
        return faults[-1].outcome(response) if faults else response

    def _call_api(self, target: Target, request: Call, faults: list[Fault]) -> Response:
        """Pass the request to the API, unless a fault stops it, and return the response.

        If a fault adds a second request, the API acts on both, and the second response is returned.
        """
        if not all(fault.reaches for fault in faults):
            # A placeholder: the fault replaces it.
            return Response(200, b"")
        received = request
        for fault in faults:
            received = fault.received(received)
        response = target.respond(received)
        for fault in faults:
            second_request = fault.second(request)
            if second_request is not None:
                response = self.api.resolve(second_request).respond(second_request)
        # `_response` adds the date, too, but some faults write the head of the response themselves.
        return attrs.evolve(response, headers={**self._date_header(), **response.headers})

    async def _respond(self, http_request: web.BaseRequest, outcome: Response | Raw) -> web.Response:
        if isinstance(outcome, Response):
            return self._response(outcome)
        if http_request.transport is not None:
            await self._write(http_request.transport, outcome)
        # The connection is closed: aiohttp discards this response.
        return web.Response()

    async def _write(self, transport: asyncio.Transport, raw: Raw) -> None:
        for index, piece in enumerate(raw.pieces):
            if index and raw.pause:
                await self.clock.sleep(raw.pause)
            if transport.is_closing():
                return
            transport.write(piece)
        if raw.reset:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        else:
            transport.close()

    def _response(self, response: Response) -> web.Response:
        headers = {"Content-Type": "application/json", **self._date_header(), **response.headers}
        return web.Response(status=response.status, body=response.body, headers=headers)

    def _date_header(self) -> dict[str, str]:
        """Return the ``Date`` header with the time of the emulator's clock."""
        now = self.clock.epoch.astimezone(UTC) + timedelta(seconds=self.clock.now())
        return {"Date": format_datetime(now, usegmt=True)}

    def _log(self, request: Call, faults: list[Fault], operation: str | None = None) -> LoggedRequest:
        entry = LoggedRequest(
            method=request.method,
            path=self._without_key(request.path),
            query=[(self._without_key(key), self._without_key(value)) for key, value in request.query],
            concurrency=self._in_flight + 1,
            time=self.clock.now(),
            operation=operation,
            faults=[type(fault).__name__ for fault in faults],
        )
        self.requests.append(entry)
        return entry

    def _without_key(self, text: str) -> str:
        plain = unquote(text) if "%" in text else text
        if self.api_key not in plain:
            return text
        return plain.replace(self.api_key, REDACTED)


def _parse_request(http_request: web.BaseRequest) -> Call:
    raw, _, raw_query = http_request.raw_path.partition("?")
    return Call(
        method=http_request.method,
        # A request line may hold the whole URL, as for a proxy.
        path=_ORIGIN.sub("", raw),
        query=parse_query(raw_query),
        raw_query=raw_query,
        host=http_request.headers.get("Host", ""),
        authorization=http_request.headers.get("Authorization"),
    )


async def _read_body(http_request: web.BaseRequest, request: Call) -> Call | Response | Raw:
    """Return the request with its body, or the response if the body cannot be read."""
    if request.method not in _METHODS_WITH_BODY:
        return request
    is_continued = http_request.headers.get("Expect", "").lower() == "100-continue"
    if is_continued and http_request.transport is not None:
        http_request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        return attrs.evolve(request, body=await http_request.read())
    except web.HTTPRequestEntityTooLarge:
        return detail(413, "Request body too large")
    except web.RequestPayloadError:
        return detail(400, "Request body could not be read")
    except ConnectionError:
        # The client disconnected before the request was complete.
        return Raw(None)
