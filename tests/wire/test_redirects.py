"""Redirects: only to the other spelling of the same path on the same origin, and once a call."""

import aiohttp
import pytest

import primepods
from primepods import RetryPolicy
from tests.support.client import KEY, make_client, serve
from tests.support.clock import ManualClock
from tests.support.server import Answer, Received, Reply, Script, Server, reply
from tests.support.tls import client_context, server_context

PAGE = reply({"total_count": 0, "offset": 0, "limit": 100, "data": []})
OK = reply({"ok": True})
ONCE = RetryPolicy(attempts=1)


def redirect(location: str, status: int = 307) -> Reply:
    """An answer that sends the client elsewhere."""
    return Reply(status, b"<html>moved</html>", headers={"Location": location, "Content-Type": "text/html"})


def other(target: str) -> str:
    """The other slash spelling of a target."""
    path, mark, query = target.partition("?")
    return (path.removesuffix("/") if path.endswith("/") else f"{path}/") + mark + query


def spelt(*, slash: bool, status: int = 307, base: str = "", keep_query: bool = True) -> Script:
    """A server that serves one slash spelling and redirects from the other, as FastAPI does."""

    def answer(request: Received) -> Answer:
        if request.path.endswith("/") == slash:
            return OK if request.method == "POST" else PAGE
        target = other(request.target)
        return redirect(base + (target if keep_query else target.partition("?")[0]), status)

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("keep_query", [True, False])
async def test_the_other_spelling_is_followed_each_time(*, status: int, keep_query: bool) -> None:
    """Query and all. Nothing is learnt from it: one odd answer must not spoil the calls that come later."""
    async with serve(spelt(slash=False, status=status, keep_query=keep_query)) as (server, client):
        await client.pods.page(offset=3, limit=7)
        await client.with_options(timeout=3).pods.page()
    assert server.targets == [
        "GET /api/v1/pods/?offset=3&limit=7",
        "GET /api/v1/pods?offset=3&limit=7",
        "GET /api/v1/pods/?offset=0&limit=100",
        "GET /api/v1/pods?offset=0&limit=100",
    ]
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("absolute", [True, False])
async def test_a_post_keeps_its_method_and_body(*, absolute: bool) -> None:
    """307 and 308 promise that nothing was done: the POST is sent again as it was, to the right spelling."""
    async with Server() as server:
        server._script = spelt(slash=True, status=308, base=server.url if absolute else "")
        async with make_client(server.url) as client:
            assert await client.request("POST", "/api/v1/things", json={"name": "x"}) == {"ok": True}
    assert server.targets == ["POST /api/v1/things", "POST /api/v1/things/"]
    assert [request.body for request in server.requests] == [b'{"name":"x"}'] * 2


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("status", [301, 302, 303])
async def test_what_would_turn_into_a_get_is_not_followed(method: str, status: int) -> None:
    """A POST that becomes a GET is a create that silently became a list."""
    async with serve(spelt(slash=True, status=status), retry=ONCE) as (server, client):
        with pytest.raises(primepods.ProtocolError, match="would change the method"):
            await client.request(method, "/api/v1/things")
    assert len(server.requests) == 1


async def test_a_circle_is_walked_once() -> None:
    """A server that sends each spelling to the other is refused after the second redirect."""
    async with serve(lambda request: redirect(other(request.target)), retry=ONCE) as (server, client):
        with pytest.raises(primepods.ProtocolError, match="redirects a second time"):
            await client.pods.page()
    assert len(server.requests) == 2


async def test_a_redirect_costs_no_attempt() -> None:
    """The attempts of the policy are for failures; after the redirect they go on in the right spelling."""
    clock = ManualClock(auto=True)
    script = [redirect("/api/v1/things/"), Reply(503), OK]
    retry = RetryPolicy(attempts=2)
    async with Server(script) as server, make_client(server.url, clock=clock, retry=retry) as client:
        assert await client.request("GET", "/api/v1/things") == {"ok": True}
    assert [request.path for request in server.requests] == ["/api/v1/things", *["/api/v1/things/"] * 2]


ELSEWHERE = {
    "another port": "{evil}/api/v1/things/",
    "another port, no scheme": "//{evil_host}/api/v1/things/",
    "another name for this host": "http://localhost:{port}/api/v1/things/",
    "https": "https://127.0.0.1:{port}/api/v1/things/",
    "a user": "http://127.0.0.1:{port}@{evil_host}/api/v1/things/",
    "another scheme": "file:///api/v1/things/",
    "another path": "/api/v2/things/",
    "the same path": "/api/v1/things",
    "two slashes": "/api/v1/things//",
    "a relative path": "things/evil",
    "another query": "/api/v1/things/?pod_ids=evil",
    "a backslash": "\\\\{evil_host}\\api\\v1\\things\\",
    "no URL": "http://[",
    "no port": "http://127.0.0.1:x/api/v1/things/",
    "nothing": "",
    "controls": "/api/v1/things/\x1b[31m",
}


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
@pytest.mark.parametrize("location", ELSEWHERE.values(), ids=ELSEWHERE.keys())
async def test_no_redirect_leads_elsewhere(method: str, location: str) -> None:
    """Another origin, path or query is a `ProtocolError`; whoever it names is not even connected to."""
    async with Server(default=OK) as evil, Server() as server:
        to = location.format(
            evil=evil.url, evil_host=evil.url.removeprefix("http://"), port=server.url.rpartition(":")[2]
        )
        server.script(redirect(to), OK)
        async with make_client(server.url, retry=ONCE) as client:
            with pytest.raises(primepods.ProtocolError, match="which is not followed") as caught:
                await client.request(method, "/api/v1/things")
        assert (evil.connections, len(server.requests)) == (0, 1)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("first", [307, 301])
async def test_a_whim_of_a_gateway_teaches_nothing(first: int) -> None:
    """A redirect to a spelling that the API does not have is a 404 once, not the end of the pod for good."""
    asked: list[str] = []

    def answer(request: Received) -> Answer:
        asked.append(request.path)
        if len(asked) == 1:
            return Reply(first, headers={"Location": f"{request.path}/"})
        return (
            reply({"detail": "Not Found"}, 404)
            if request.path.endswith("/")
            else reply({"id": "a", "gpuName": "x", "gpuCount": 1, "priceHr": 1, "providerType": "x"})
        )

    async with Server(answer) as server, make_client(server.url) as client:
        with pytest.raises(primepods.NotFoundError):
            await client.pods.get("a")
        assert (await client.pods.get("a")).id == "a"
    path = "/api/v1/pods/a"
    assert asked == [path, f"{path}/", path]


async def test_an_answer_without_location_leads_nowhere() -> None:
    """A redirect that does not say where to is refused, and asked for again like what else may pass."""
    clock = ManualClock(auto=True)
    async with Server([Reply(307), PAGE]) as server, make_client(server.url, clock=clock) as client:
        await client.pods.page()
    async with Server([Reply(307)]) as server, make_client(server.url, retry=ONCE) as client:
        with pytest.raises(primepods.ProtocolError, match="not followed"):
            await client.pods.page()


@pytest.mark.parametrize("kind", ["downgrade", "upgrade back", "same"])
async def test_https_stays_https(kind: str) -> None:
    """Behind a TLS proxy a redirect can name http: there the key would travel in clear, so it does not."""
    async with (
        Server(default=PAGE) as plain,
        Server(default=PAGE, tls=server_context()) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
        make_client(server.url, session=session, retry=ONCE) as client,
    ):
        bare = server.url.removeprefix("https:")
        to = {"downgrade": f"http:{bare}", "upgrade back": plain.url, "same": server.url}[kind]
        server.script(redirect(f"{to}/api/v1/pods?offset=0&limit=100"))
        if kind == "same":
            await client.pods.page()
        else:
            with pytest.raises(primepods.ProtocolError, match="another origin"):
                await client.pods.page()
        assert plain.connections == 0
        assert server.connections == 1
