"""The key: on the wire to its host, and nowhere else."""

import asyncio
import copy
import gc
import io
import logging
import pickle
import pprint
import traceback
from collections.abc import Awaitable, Callable
from types import BuiltinFunctionType, FrameType, FunctionType, MethodType, ModuleType, TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from rich.console import Console
from rich.traceback import Traceback

import primepods
from primepods import RetryPolicy
from primepods._utils.secret import Secret
from tests.support.client import KEY, make_client, serve
from tests.support.clock import ManualClock, settle
from tests.support.server import (
    Answer,
    Close,
    Hang,
    Held,
    Raw,
    Received,
    Reply,
    Reset,
    Server,
    blurting,
    refused_url,
    reply,
)
from tests.support.tls import server_context

PATH = "/api/v1/things"
LONG_KEY = "pit_" + "0123456789abcdefghijklmnopqrstuvwxyz" * 4
ONCE = RetryPolicy(attempts=1)


def leaks(text: str, key: str = KEY) -> bool:
    """Whether a telling part of the key stands in a text."""
    return key[:12] in text or key[-12:] in text


class PlainTraceback(Traceback):
    """Rich's traceback without syntax highlighting, which reads whole files for one line of each frame."""

    @classmethod
    def _guess_lexer(cls, filename: str, code: str) -> str:
        return "text"


def shown(error: BaseException) -> str:
    """All that is printed of an exception by whoever prints most."""
    parts = [str(error), repr(error), repr(error.args), repr(vars(error)), pprint.pformat(vars(error))]
    chain: BaseException | None = error
    while chain is not None:
        parts += [repr(vars(chain)), str(getattr(chain, "request_info", ""))]
        chain = chain.__cause__ or chain.__context__
    parts += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    output = io.StringIO()
    pretty = PlainTraceback.from_exception(
        type(error),
        error,
        error.__traceback__,
        show_locals=True,
        extra_lines=0,
        locals_max_string=40,
        locals_max_length=1000,
        locals_hide_dunder=False,
        locals_hide_sunder=False,
    )
    Console(file=output, width=300, color_system=None).print(pretty)
    parts.append(output.getvalue())
    if isinstance(error, primepods.PrimePodsError):
        parts += [repr(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
        parts.append(repr(pickle.loads(pickle.dumps(error))))
        parts.append(repr(copy.copy(error)))
    return "\n".join(parts)


def holds(error: BaseException, key: str = KEY) -> bool:
    """Whether anything that can be reached from an error, by any reference, is a text with the key.

    Not through tracebacks, whose frames are those of the caller, who has the key; nor through code.
    """
    code = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, FrameType, TracebackType)
    seen: dict[int, object] = {}
    queue: list[object] = [error]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, code):
            continue
        seen[id(thing)] = thing
        assert len(seen) < 100_000, "an error leads to half of the program"
        text = thing.decode("latin-1") if isinstance(thing, bytes) else thing
        if isinstance(text, str) and leaks(str.__str__(text), key):
            return True
        queue += gc.get_referents(thing)
    return False


def check(error: BaseException, key: str = KEY) -> None:
    """An error neither shows the key nor leads to it."""
    assert not leaks(shown(error), key)
    assert not holds(error, key)


async def caught(call: Awaitable[object]) -> BaseException:
    """The exception that a call ends with."""
    try:
        await call
    except BaseException as error:
        return error
    pytest.fail("nothing was raised")


# Each fails in a way of its own; none of them hears of the key but in the header.
FAILURES: dict[str, Answer] = {
    "reset": Reset(),
    "closed": Close(),
    "never": Hang(),
    "cut body": Reply(200, b'{"ok": true}', cut=5),
    "stalled body": Reply(200, b'{"ok": true}', cut=5, stall=True),
    "garbage": Raw(b"garbage\r\n\r\n"),
    "bad chunk": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "too large": Reply(200, b"", length=10**12),
    "redirect": Reply(307, headers={"Location": "http://elsewhere.example.test/"}),
    "HTML": Reply(200, b"<html>", headers={"Content-Type": "text/html"}),
    "no JSON": Reply(200, b"{"),
    **{
        str(status): reply({"detail": "no"}, status)
        for status in (400, 401, 403, 404, 409, 422, 429, 500, 503)
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "kind"), [*(("GET", kind) for kind in FAILURES), ("POST", "reset"), ("POST", "400")]
)
async def test_no_failure_shows_the_key(method: str, kind: str) -> None:
    """Message, repr, attributes, pickle and traceback with locals of every failure are free of it."""
    answer, key = FAILURES[kind], LONG_KEY if method == "GET" else KEY
    clock = ManualClock(auto=True)
    retry = RetryPolicy(attempts=2)
    async with serve(default=answer, clock=clock, api_key=key, retry=retry) as (server, client):
        error = await caught(client.request(method, PATH, json={"a": 1} if method == "POST" else None))
        assert server.requests[0].headers["authorization"] == f"Bearer {key}"
    assert isinstance(error, primepods.PrimePodsError)
    check(error, key)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["refused", "TLS", "proxy", "timeout", "deadline", "queue", "closed", "second loop"]
)
async def test_no_connection_shows_the_key(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do failures on the way there: connecting, TLS, a proxy, time, the queue, a closed client."""
    clock = ManualClock(auto=kind != "closed")
    tls = server_context() if kind == "TLS" else None
    default = Reply(407) if kind == "proxy" else Hang()
    async with Server(default=default, tls=tls) as server:
        url, options = server.url, dict[str, Any](retry=ONCE)
        if kind == "refused":
            url = refused_url()
        elif kind == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", server.url)
            url = "https://api.example.test"
        elif kind == "deadline":
            options = {"timeout": 50, "deadline": 70}
        elif kind == "queue":
            options = {"max_concurrency": 1, "timeout": 60, "deadline": 50}
        async with make_client(url, clock=clock, **options) as client:
            calls = [asyncio.ensure_future(client.request("GET", PATH)) for _ in range(2)]
            await settle()
            if kind == "closed":
                await client.aclose()
            if kind == "second loop":

                async def elsewhere() -> BaseException:
                    return await caught(client.request("GET", PATH))

                errors = [await asyncio.to_thread(asyncio.run, elsewhere())]
            else:
                errors = [await caught(call) for call in calls]
            await asyncio.gather(*calls, return_exceptions=True)
    for error in errors:
        assert isinstance(error, primepods.PrimePodsError)
        check(error)


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False])
async def test_a_cancelled_call_does_not_show_the_key(*, own: bool) -> None:
    """Cancellation passes through the HTTP library's frames: their locals have no key either."""
    places: set[tuple[str, ...]] = set()
    for answer in (Hang(), Reply(200, b'{"ok": true}', cut=5, stall=True), Reply(503)):
        for turns in (0, 4, 8, 20):
            async with serve(
                default=answer, clock=ManualClock(), given=None if own else {}, api_key=LONG_KEY
            ) as (_server, client):
                task = asyncio.create_task(client.request("POST", PATH, json={"a": 1}))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                error = await caught(task)
                place = tuple(traceback.format_tb(error.__traceback__))
                if isinstance(error, asyncio.CancelledError) and place not in places:
                    places.add(place)
                    assert not leaks(shown(error), LONG_KEY), f"after {turns} turns"
    assert any("aiohttp" in line for place in places for line in place)


async def test_writing_to_a_closed_connection_does_not_show_the_key() -> None:
    """A large body to a server that has hung up fails while it is written: in aiohttp's innermost frames."""
    async with blurting() as (place, _), make_client(f"http://{place}", retry=ONCE) as client:
        error = await caught(client.request("POST", PATH, json={"a": "x" * 2_000_000}))
    assert isinstance(error, primepods.TransportError)
    check(error)


@pytest.mark.slow
async def test_what_a_callers_hook_raises_does_not_show_the_key() -> None:
    """A hook or middleware that breaks, inside of aiohttp, brings no frame with the key along."""

    async def broken(*_: object) -> None:
        msg = "a hook broke"
        raise ZeroDivisionError(msg)

    async def middle(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        response = await handler(request)
        msg = f"broke behind {response.status}"
        raise ZeroDivisionError(msg)

    for hook in ("on_connection_create_end", "on_request_headers_sent"):
        trace = aiohttp.TraceConfig()
        getattr(trace, hook).append(broken)
        async with serve(default=reply({}), given={"trace_configs": [trace]}) as (_server, client):
            error = await caught(client.request("GET", PATH))
        assert isinstance(error, ZeroDivisionError)
        assert not leaks(shown(error))
    async with serve(default=reply({}), given={"middlewares": [middle]}) as (_server, client):
        error = await caught(client.request("GET", PATH))
    assert isinstance(error, ZeroDivisionError)
    assert not leaks(shown(error))


async def test_hooks_that_record_headers_do_not_get_the_key() -> None:
    """A trace config that copies the headers of a request as it starts has no key in its copy."""
    seen: list[str] = []

    async def record(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(str(dict(params.headers)))
        seen.extend(params.headers.values())

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(record)
    async with serve(default=reply({}), given={"trace_configs": [trace]}) as (_server, client):
        await client.request("GET", PATH)
    assert seen
    assert not leaks("".join(seen))


def echo(request: Received) -> str:
    """The credentials as they came."""
    return request.headers["authorization"]


def escaped(text: str) -> bytes:
    """JSON that spells every character by its number."""
    return b"".join(b"\\u%04x" % ord(char) for char in text)


ECHOES: dict[str, Callable[[Received], Answer]] = {
    "detail": lambda request: reply({"detail": f"bad {echo(request)}"}, 400),
    "retried detail": lambda request: reply({"detail": f"bad {echo(request)}"}, 503),
    "header": lambda request: reply(
        {"detail": "no"}, 400, headers={"X-Echo": echo(request), "X-Request-Id": echo(request)}
    ),
    "header of a good answer": lambda request: Reply(200, b"{", headers={"X-Echo": echo(request)}),
    "name of a header": lambda request: reply({"detail": "no"}, 400, headers={echo(request)[7:]: "x"}),
    "no JSON": lambda request: Reply(200, f'{{"a": {echo(request)}'.encode()),
    "half of it in the excerpt": lambda request: Reply(200, b" " * 790 + echo(request)[7:].encode()),
    "half of it in what is read": lambda request: Reply(500, b"\n" * 19_990 + echo(request)[7:].encode()),
    "escapes": lambda request: Reply(400, b'{"detail": "%b"}' % escaped(echo(request))),
    "a web page": lambda request: Reply(500, f"<title>{echo(request)}</title>".encode()),
    "complaints": lambda request: reply(
        {"errors": [{"param": echo(request), "details": {echo(request): 1}}]}, 422
    ),
    "places": lambda request: reply(
        {"detail": [{"loc": [echo(request)], "msg": "m", "input": echo(request)}]}, 422
    ),
    "wrong shape": lambda request: reply(
        {"total_count": 1, "offset": 0, "limit": 9, "data": [{"id": 1, "x": echo(request)}]}
    ),
    "wrong document": lambda request: reply({"data": echo(request)}),
    "redirect": lambda request: Reply(
        307, headers={"Location": f"http://elsewhere.example.test/{echo(request)[7:]}"}
    ),
    "garbage": lambda request: Raw(f"{echo(request)}\r\n\r\n".encode()),
    "bad header": lambda request: Raw(f"HTTP/1.1 200 OK\r\n{echo(request)}\r\n\r\n".encode()),
    "URL": lambda request: Reply(500, f"no {quote(echo(request), safe='')}".encode()),
    "bad chunk": lambda request: Raw(
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{echo(request)}\r\n".encode()
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES.keys())
async def test_a_server_that_repeats_the_key_is_not_repeated(
    answer: Callable[[Received], Answer], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the server itself writes the key into its answer, it is blotted out of all that we make of it."""
    clock = ManualClock(auto=True)
    caplog.set_level(logging.DEBUG)
    async with Server(answer) as server, make_client(server.url, clock=clock) as client:
        error = await caught(client.pods.page())
    assert isinstance(error, primepods.PrimePodsError)
    check(error)
    assert not leaks(caplog.text)


BODY = b'{"jupyterPassword": "hunter2", "id": "' + b"x" * 400 + b'", "password": "hunter2"}'


@pytest.mark.parametrize(
    "answer",
    [
        *(Reply(200, BODY, length=len(BODY) - too_short) for too_short in (2, 300)),
        Raw(b"HTTP/1.1 200 OK\r\nSet-Cookie: hunter2\r\nX"),
        Raw(b"HTTP/1.1 200 OK\r\nSet-Cookie: " + b"hunter2" * 3_000),
        Raw(b"HTTP/1.1 200 " + b"hunter2" * 3_000 + b"\r\n\r\n"),
    ],
    ids=["2 bytes too long", "300 bytes too long", "a head that is cut", "a long header", "a long reason"],
)
async def test_what_cannot_be_parsed_is_not_repeated(
    answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """The HTTP library tells what it could not parse, and that can hold a password."""
    caplog.set_level(logging.DEBUG)
    async with Server(default=answer) as server, make_client(server.url, retry=ONCE) as client:
        error = await caught(client.request("GET", PATH))
    assert isinstance(error, primepods.ProtocolError | primepods.TransportError)
    told = f"{error!r} {vars(error)} {error.__cause__!r} {caplog.text}"
    assert "hunter2" not in told
    assert len(told) < 2_000


def test_copies_of_the_key_are_the_key() -> None:
    """Copied settings still log in; only a pickle has none."""
    secret = Secret(KEY)
    assert copy.copy(secret) == copy.deepcopy([secret])[0] == KEY
    assert not pickle.loads(pickle.dumps(secret))


async def test_no_log_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """All loggers at DEBUG, asyncio in debug mode: no record has it, however it is formatted."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    try:
        clock = ManualClock(auto=True)
        script = [Reset(), Reply(503), Reply(200, b"{", cut=1), Hang(), reply({})]
        async with Server(script) as server, make_client(server.url, clock=clock, timeout=5) as client:
            assert await client.request("GET", PATH) == {}
            await caught(client.request("GET", PATH))
    finally:
        loop.set_debug(False)
    records = [record for record in caplog.records if record.name == "primepods"]
    assert len(records) == 10
    assert not leaks(caplog.text)
    assert not leaks("".join(repr(vars(record)) for record in caplog.records))


async def test_nothing_of_a_client_shows_the_key() -> None:
    """`repr`, `vars` and whatever hangs on a client, to any depth, print without it; it is not pickled."""
    event = asyncio.Event()
    async with Server(default=Held(event, reply({}))) as server:
        client = make_client(server.url, api_key=LONG_KEY)
        task = asyncio.create_task(client.request("GET", PATH))
        await settle()
        seen = walk(client)
        event.set()
        await task
        await client.aclose()
    assert len(seen) > 50
    assert not leaks("\n".join(seen), LONG_KEY)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client)
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(client)
    settings = client._executor.settings
    assert not leaks(repr(pickle.dumps(settings)), LONG_KEY)
    assert not leaks(repr(settings) + str(settings), LONG_KEY)


def walk(root: object) -> list[str]:
    """The `repr` of everything of ours that can be reached by attributes and containers."""
    texts: list[str] = []
    seen: set[int] = set()
    queue: list[object] = [root]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, type | asyncio.AbstractEventLoop):
            continue
        seen.add(id(thing))
        texts.append(repr(thing))
        if isinstance(thing, dict):
            queue += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            queue += thing
        elif type(thing).__module__.startswith("primepods"):
            names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
            queue += [getattr(thing, name, None) for name in names if name != "__weakref__"]
            queue.append(getattr(thing, "__dict__", {}))
            texts.append(pprint.pformat(getattr(thing, "__dict__", {})))
    return texts
