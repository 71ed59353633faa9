"""Deleting: what counts as proof that a pod is on its way out, and what does not."""

import asyncio
import pickle
from collections.abc import Iterable

import aiohttp
import pytest

import primepods
from primepods import PodState, RetryPolicy
from tests.support.client import make_client, serve
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
    refused_url,
    reply,
)

ONCE = RetryPolicy(attempts=1)
OTHERS = {"total_count": 2, "data": [{"id": "x"}, {"id": "y", "gpuCount": "unreadable"}]}
LIST = "/api/v1/pods/"
STATUS = "/api/v1/pods/status"
HISTORY = "/api/v1/pods/history"
DELETING = reply({"status": "DELETING", "id": "a"})
GONE = reply({"detail": "Pod not found"}, 404)
HTML = {"Content-Type": "text/html"}


def pod(status: str | None) -> Reply:
    """What `get` says of a pod."""
    return reply(
        {"id": "a", "gpuName": "H100", "gpuCount": 1, "priceHr": 2, "providerType": "p", "status": status}
    )


def ended(*ids: str, at: str | None = "2026-02-01T00:00:00Z") -> Reply:
    """What the history says of these pods."""
    row = {"type": "Instance", "gpuName": "H100", "gpuCount": 1, "priceHr": 2, "totalBilledPrice": 2}
    row |= {"providerType": "p", "createdAt": "2026-01-01T00:00:00Z", "terminatedAt": at}
    return reply({"total_count": len(ids), "data": [row | {"id": pod_id} for pod_id in ids]})


def api(
    deletes: Iterable[Answer],
    gets: Iterable[Answer] = (),
    listing: Answer | None = None,
    history: Answer | None = None,
) -> Server:
    """A server that answers DELETEs and `get` as told, each time with the last one when they run out."""
    queues = {"DELETE": list(deletes), "GET": list(gets) or [GONE]}

    def answer(request: Received) -> Answer:
        if request.path == LIST:
            return listing or reply(OTHERS)
        if request.path == HISTORY:
            return history or ended("b", "a")
        queue = queues[request.method]
        return queue.pop(0) if len(queue) > 1 else queue[0]

    return Server(answer)


def methods(server: Server) -> str:
    """The requests as letters: D(ELETE), G(ET) of the pod, S(tatus), L(ist), H(istory)."""
    letters = {LIST: "L", STATUS: "S", HISTORY: "H"}
    return "".join(letters.get(request.path, request.method[0]) for request in server.requests)


def listed(*ids: str, **fields: object) -> Reply:
    """What the list says of these pods."""
    rows = [{"id": pod_id, "gpuCount": "unreadable"} for pod_id in ids]
    return reply({"total_count": len(ids), "data": rows, **fields})


@pytest.mark.parametrize("status", ["DELETING", "TERMINATED"])
@pytest.mark.parametrize("code", [200, 202])
async def test_the_apis_own_word_is_enough(status: str, code: int) -> None:
    """DELETING and TERMINATED of the right pod are believed, and cost one request."""
    async with api([reply({"status": status, "id": "a"}, code)]) as server, make_client(server.url) as client:
        assert await client.pods.delete("a") == status
    assert methods(server) == "D"


@pytest.mark.parametrize(
    "listing", [{"total_count": 2, "data": []}, {"total_count": 3, "data": [{"id": "b"}]}]
)
async def test_a_list_that_is_shorter_than_it_says_proves_nothing(listing: object) -> None:
    """As a replica's that has lost its rows: the pod may be among those."""
    clock = ManualClock(auto=True)
    async with serve(api([GONE], listing=reply(listing)), clock=clock) as (_server, client):
        with pytest.raises(primepods.ProtocolError, match="the API counts"):
            await client.pods.delete("a", missing_ok=True)


async def test_an_account_without_pods_has_none() -> None:
    """Which is said twice."""
    empty = reply({"total_count": 0, "data": []})
    async with api([GONE], listing=empty) as server, make_client(server.url) as client:
        assert await client.pods.delete("a", missing_ok=True) == "TERMINATED"
    assert methods(server) == "DGLL"


@pytest.mark.parametrize("status", [400, 409, 410])
@pytest.mark.parametrize("missing_ok", [True, False])
async def test_a_pod_that_goes_already_may_be_refused(status: int, *, missing_ok: bool) -> None:
    """Where the pod is not on its way out, the refusal is the error."""
    refused = reply({"detail": "Pod is being terminated"}, status)
    for get, state in ((pod("DELETING"), "DELETING"), (GONE, "TERMINATED"), (pod("ACTIVE"), None)):
        async with api([refused], [get]) as server, make_client(server.url) as client:
            if state is not None:
                assert await client.pods.delete("a", missing_ok=missing_ok) == state
                continue
            with pytest.raises(primepods.APIError, match="being terminated") as caught:
                await client.pods.delete("a", missing_ok=missing_ok)
            assert caught.value.status_code == status
            assert methods(server) == "DG"


ABOUT_ANOTHER: dict[str, Answer] = {
    "another pod's id": reply({"status": "TERMINATED", "id": "b"}),
    "an id that is none": reply({"status": "TERMINATED", "podId": ["a"]}),
}
VAGUE: dict[str, Answer] = {
    **ABOUT_ANOTHER,
    "no id": reply({"status": "DELETING"}),
    "200 without a body": Reply(200),
    "204": Reply(204),
    "ACTIVE": reply({"status": "ACTIVE"}),
    "ERROR": reply({"status": "ERROR"}),
    "a new word": reply({"status": "HIBERNATING"}),
    "no status": reply({"message": "ok"}),
    "no object": reply([1]),
}


@pytest.mark.parametrize("answer", VAGUE.values(), ids=VAGUE)
@pytest.mark.parametrize(
    ("get", "state", "asked"),
    [
        (GONE, "TERMINATED", "DGL"),
        (pod("DELETING"), "DELETING", "DG"),
        (pod("TERMINATED"), "TERMINATED", "DG"),
    ],
    ids=["404", "DELETING", "TERMINATED"],
)
async def test_a_vague_answer_counts_when_get_agrees(
    answer: Answer, get: Answer, state: str, asked: str
) -> None:
    """Any other success is settled by what `get` shows."""
    async with api([answer], [get]) as server, make_client(server.url) as client:
        assert await client.pods.delete("a") == state
    # After a response about another pod, only the history shows that an absent pod has ended.
    assert methods(server) == asked + "H" * (asked == "DGL" and answer in ABOUT_ANOTHER.values())


@pytest.mark.parametrize("answer", [*VAGUE.values(), GONE], ids=[*VAGUE, "404"])
async def test_a_pod_that_stays_is_not_deleted(answer: Answer) -> None:
    """The deletion is sent as often as the policy says, then it fails, and says that the pod is there."""
    clock = ManualClock(auto=True)
    retry = RetryPolicy(attempts=3)
    state, shown = (None, "without a status") if answer is GONE else ("ACTIVE", "with status ACTIVE")
    async with serve(api([answer], [pod(state)]), clock=clock, retry=retry) as (server, client):
        with pytest.raises(primepods.ProtocolError, match=rf"{shown} \(3 attempts\).* still be billed"):
            await client.pods.delete("a", missing_ok=True)
    assert methods(server) == "DG" * 3


@pytest.mark.parametrize("first", [Reply(204), GONE], ids=["204", "404"])
async def test_a_deletion_is_sent_again_until_it_shows(first: Answer) -> None:
    """Neither a lagging replica nor a 404 for a pod that is there hides that the pod goes."""
    clock = ManualClock(auto=True)
    async with serve(api([first, GONE, DELETING], [pod("ACTIVE")]), clock=clock) as (server, client):
        assert await client.pods.delete("a") == PodState.DELETING
    assert methods(server) == "DGDGD"


async def test_a_404_for_a_pod_that_was_shown_is_its_end() -> None:
    """A pod that a read has shown existed, so its id was right, whatever the DELETEs got."""
    clock = ManualClock(auto=True)
    async with serve(api([GONE], [pod("ACTIVE"), GONE]), clock=clock) as (server, client):
        assert await client.pods.delete("a") == PodState.TERMINATED
    assert methods(server) == "DGDGL"


async def test_the_deadline_bounds_all_of_it() -> None:
    """However patient the policy is."""
    clock = ManualClock(auto=True)
    async with serve(
        api([Reply(204)], [pod("ACTIVE")]), clock=clock, deadline=20, retry=RetryPolicy(attempts=1_000)
    ) as (_server, client):
        with pytest.raises(primepods.ProtocolError, match="ACTIVE"):
            await client.pods.delete("a")
        assert clock.elapsed <= 20


async def test_the_deadline_bounds_the_look_at_the_pod_as_well() -> None:
    """A `get` that hangs has only what the DELETE has left of it."""
    clock = ManualClock(auto=True)
    async with (
        api([Reply(503, headers={"Retry-After": "15"}), Reply(204)], [Hang()]) as server,
        make_client(server.url, clock=clock, deadline=20) as client,
    ):
        with pytest.raises(primepods.RequestTimeoutError):
            await client.pods.delete("a")
        assert clock.elapsed <= 20
    assert methods(server) == "DDG"


async def test_what_cannot_be_seen_is_no_success() -> None:
    """When `get` fails, its error is raised, with a note on the deletion."""
    async with serve(api([Reply(204)], [reply({"detail": "no"}, 403)])) as (_server, client):
        with pytest.raises(primepods.PermissionDeniedError) as caught:
            await client.pods.delete("a")
    assert any("unknown whether pod a is deleted" in note for note in caught.value.__notes__)


async def test_a_first_404_is_a_mistyped_id() -> None:
    """A pod that the API does not have was not deleted by us, unless the caller does not mind."""
    async with api([GONE]) as server, make_client(server.url) as client:
        with pytest.raises(primepods.NotFoundError, match="history"):
            await client.pods.delete("a")
        for _ in range(2):
            assert await client.pods.delete("a", missing_ok=True) == PodState.TERMINATED
    assert methods(server) == "DGL" * 3  # that this is the API is proved each time


async def test_a_first_404_is_a_mistyped_id_whatever_becomes_of_others() -> None:
    """The history is read for another pod, whose DELETE may have acted: it says nothing of this one."""
    lost = [reply({"detail": "oops"}, 503)]

    def answer(request: Received) -> Answer:
        if request.path == LIST:
            return reply(OTHERS)
        if request.path == HISTORY:
            return ended("b", "c")
        if request.path == STATUS:
            return reply({"data": []})
        return lost.pop() if request.path.endswith("/c") and lost else GONE

    async with serve(Server(answer), clock=ManualClock(auto=True)) as (_server, client):
        outcome = await client.pods.delete_many(["b", "c"])
    assert outcome["c"] == PodState.TERMINATED
    assert isinstance(outcome.errors["b"], primepods.NotFoundError)


async def test_a_404_said_twice_is_a_mistyped_id_still() -> None:
    """A pod that does not show yet was not deleted, though the first look at it failed."""
    mixed_up = reply({"id": "b", "status": "ACTIVE"})
    clock = ManualClock(auto=True)
    async with api([GONE], [mixed_up, GONE]) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.NotFoundError):
            await client.pods.delete("a")
    assert methods(server) == "DGDGL"


@pytest.mark.parametrize(
    "listing", [{"data": []}, {"total_count": 0}, {"total_count": 1, "data": [{"x": 1}]}, {"ok": True}, ["a"]]
)
async def test_a_list_of_another_kind_proves_no_api(listing: object) -> None:
    """What answers the list must answer as the API does before a 404 is believed."""
    clock = ManualClock(auto=True)
    async with serve(api([GONE], listing=reply(listing)), clock=clock) as (_server, client):
        with pytest.raises(primepods.ProtocolError) as caught:
            await client.pods.delete("a", missing_ok=True)
    assert any("is deleted: its DELETE got 404" in note for note in caught.value.__notes__)


async def test_a_gateway_that_begins_to_answer_deletes_nothing() -> None:
    """A JSON 404 to everything, later in a client's life, is no pod's end."""
    router = reply({"detail": "Not Found"}, 404)
    listings: list[Answer] = [reply(OTHERS), router]

    def answer(request: Received) -> Answer:
        return listings.pop(0) if request.path == LIST else router

    async with Server(answer) as server, make_client(server.url) as client:
        assert await client.pods.delete("a", missing_ok=True) == "TERMINATED"
        with pytest.raises(primepods.NotFoundError, match="path does not exist"):
            await client.pods.delete("b", missing_ok=True)


async def test_a_404_is_not_believed_while_the_list_has_the_pod() -> None:
    """A gateway may lose the pods' own paths only; the deletion is sent again, and its error says so."""
    clock = ManualClock(auto=True)
    retry = RetryPolicy(attempts=2)
    async with serve(api([GONE], listing=listed("b", "a")), clock=clock, retry=retry) as (server, client):
        with pytest.raises(primepods.ProtocolError, match="still shows the pod, in the list"):
            await client.pods.delete("a", missing_ok=True)
    assert methods(server) == "DGL" * 2


async def test_unreadable_rows_of_others_do_not_matter() -> None:
    """The list has rows of which nothing but the id can be read, one without even that, and several pages."""

    def answer(request: Received) -> Answer:
        if request.path != LIST:
            return GONE
        if request.values("offset") == ["0"]:
            return listed("b", "c", total_count=4, limit=2)
        return reply({"total_count": 4, "data": [{"id": "c"}, None, {"name": "nobody's"}]})

    async with Server(answer) as server, make_client(server.url) as client:
        assert await client.pods.delete("a", missing_ok=True) == "TERMINATED"
    assert methods(server).startswith("DGLL")


@pytest.mark.parametrize("shown", [{}, {"id": "b"}], ids=["nobody's", "another pod's"])
async def test_a_row_of_another_pod_proves_nothing(shown: dict[str, str]) -> None:
    """Nor one of nobody: the deletion is sent again, and ends with what could not be read."""
    clock = ManualClock(auto=True)
    mixed_up = reply({**shown, "status": "DELETING"})
    async with serve(api([Reply(204)], [mixed_up, mixed_up, pod("DELETING")]), clock=clock) as (
        server,
        client,
    ):
        assert await client.pods.delete("a") == "DELETING"
    assert methods(server) == "DG" * 3
    async with api([Reply(204)], [mixed_up]) as server, make_client(server.url, retry=ONCE) as client:
        with pytest.raises(primepods.ProtocolError, match="expected 'a'"):
            await client.pods.delete("a")


async def test_a_refusal_is_settled_by_a_look_after_it() -> None:
    """Not by the one before, which could not be read."""
    looks = [reply({"id": "b", "status": "DELETING"}), pod("DELETING")]
    clock = ManualClock(auto=True)
    async with serve(api([Reply(204), reply({}, 409)], looks), clock=clock) as (server, client):
        assert await client.pods.delete("a") == "DELETING"
    assert methods(server) == "DGDG"


@pytest.mark.parametrize("before", [[], [Reply(503)], [Reset(), Reset()]], ids=["at once", "503", "lost"])
async def test_a_server_that_knows_no_api_deletes_nothing(before: list[Answer]) -> None:
    """A router's `{"detail": "Not Found"}` for every path, as behind a wrong base URL."""
    router = reply({"detail": "Not Found"}, 404)
    clock = ManualClock(auto=True)
    async with serve(api([*before, router], [router], listing=router), clock=clock) as (_server, client):
        with pytest.raises(primepods.NotFoundError):
            await client.pods.delete("a", missing_ok=True)


@pytest.mark.parametrize("missing_ok", [False, True])
@pytest.mark.parametrize("before", [[], [reply({"detail": "later"}, 503)]], ids=["at once", "after a 503"])
@pytest.mark.parametrize("body", [b"<html>no such site</html>", b"404 page not found", b""])
async def test_a_404_that_is_not_json_proves_nothing(
    *, missing_ok: bool, before: list[Reply], body: bytes
) -> None:
    """An ingress, not the API, says so: the pod may run and be billed."""
    page = Reply(404, body, headers=HTML if body.startswith(b"<") else {"Content-Type": "text/plain"})
    clock = ManualClock(auto=True)
    async with api([*before, page], [page]) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.ProtocolError, match="404"):
            await client.pods.delete("a", missing_ok=missing_ok)
        with pytest.raises(primepods.ProtocolError, match="404"):
            await client.pods.get("a")


@pytest.mark.parametrize("status", [400, 409, 410])
async def test_a_refusal_of_a_pod_that_nothing_has_shown_is_no_deletion(status: int) -> None:
    """Neither list nor history has it: it may appear later, and the refusal is the error."""
    refused = reply({"detail": "Conflict"}, status)
    async with serve(api([refused], history=ended("b")), retry=ONCE) as (_server, client):
        with pytest.raises(primepods.APIError) as caught:
            await client.pods.delete("a")
    assert caught.value.status_code == status


# Failures after which the deletion may have been carried out although nobody was told.
LOST: dict[str, list[Answer]] = {
    "reset": [Reset()] * 2,
    "closed": [Close()] * 2,
    "cut answer": [Reply(200, b'{"status": "DELETING"}', cut=3)],
    "no HTTP": [Raw(b"garbage\r\n\r\n")],
    "no JSON": [Reply(200, b"OK")],
    "500": [Reply(500)],
    "504": [Reply(504)],
    "never": [Hang()],
    "500, then 429": [Reply(500), Reply(429)],
    "resent by aiohttp": [Reset()],
    "resent by aiohttp, then 429": [Reset(), Reply(429)],
    "resent by aiohttp, then a redirect": [Reset(), Reply(307, headers={"Location": "/api/v1/pods/a/"})],
}


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("missing_ok", [True, False])
@pytest.mark.parametrize("kind", LOST)
async def test_a_lost_answer_is_found_out(*, kind: str, own: bool, missing_ok: bool) -> None:
    """A 404 to a DELETE that may have been carried out unseen is its success, if the history has the pod."""

    async def through(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        return await handler(request)

    clock = ManualClock(auto=True)
    given = None if own else {"middlewares": [through]}
    async with serve(api([*LOST[kind], GONE]), clock=clock, timeout=5, given=given) as (server, client):
        assert await client.pods.delete("a", missing_ok=missing_ok) == PodState.TERMINATED
    assert methods(server) == "D" * (len(LOST[kind]) + 1) + ("GL" if missing_ok else "GLH")


@pytest.mark.parametrize("deletes", [[Reset(), Reset(), GONE], [*ABOUT_ANOTHER.values(), GONE]])
@pytest.mark.parametrize("history", [ended("b"), ended("a", at=None), reply({"detail": "no"}, 403)])
async def test_a_pod_that_nothing_has_ever_shown_is_not_deleted(
    history: Answer, deletes: list[Answer]
) -> None:
    """A lost response, or others' responses, then 404: it may appear later. It is tried again, then said."""
    clock = ManualClock(auto=True)
    async with serve(api(deletes, history=history), clock=clock, retry=RetryPolicy(attempts=3)) as (
        server,
        client,
    ):
        with pytest.raises(primepods.ProtocolError, match="not appeared yet"):
            await client.pods.delete("a")
    assert methods(server).count("H") == 3


@pytest.mark.parametrize("own", [True, False])
async def test_a_connection_that_died_idle_is_no_mistyped_id(*, own: bool) -> None:
    """A kept connection is found closed and the DELETE sent again: the 404 then is the second answer."""
    async with serve(api([Close(), GONE]), given=None if own else {}, retry=ONCE) as (server, client):
        await client.request("GET", LIST)
        assert await client.pods.delete("a") == PodState.TERMINATED
    assert [request.connection for request in server.requests][:3] == [0, 0, 1]


async def test_a_lost_answer_before_a_refused_connection_counts() -> None:
    """The server acted and went down; when it is back the pod is gone, and that was us."""
    clock = ManualClock()
    async with api([Reset()]) as server, make_client(server.url, clock=clock) as client:
        await client.request("GET", LIST)
        task = asyncio.create_task(client.pods.delete("a"))
        while "D" not in methods(server):
            await settle()
        await server.stop()
        await settle()
        async with Server(api([GONE])._script or (), port=int(server.url.rpartition(":")[2])):
            await clock.advance(1)
            assert await task == PodState.TERMINATED


async def test_who_says_429_has_done_nothing() -> None:
    """The 404 behind it is the first word about the pod: there is none."""
    clock = ManualClock(auto=True)
    async with api([Reply(429), Reply(429), GONE]) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.NotFoundError):
            await client.pods.delete("a")
    assert methods(server) == "DDDGL"


async def test_who_refuses_the_connection_has_done_nothing() -> None:
    """A server that was down for the first attempt has deleted nothing either."""
    clock = ManualClock()
    url = refused_url()
    async with make_client(url, clock=clock) as client:
        task = asyncio.create_task(client.pods.delete("a"))
        await settle()
        async with Server(api([GONE])._script or (), port=int(url.rpartition(":")[2])):
            await clock.advance(1)
            with pytest.raises(primepods.NotFoundError):
                await task


async def test_the_escape_hatch_says_that_a_404_may_be_ours() -> None:
    """`client.request("DELETE", …)` cannot ask `get`: its 404 says that we may have been the cause."""
    clock = ManualClock(auto=True)
    async with Server([Reply(500), GONE, GONE]) as server, make_client(server.url, clock=clock) as client:
        for maybe_acted in (True, False):
            with pytest.raises(primepods.NotFoundError) as caught:
                await client.request("DELETE", "/api/v1/ssh_keys/1")
            assert caught.value.maybe_acted is maybe_acted


async def test_delete_many_stops_at_nothing() -> None:
    """Each pod has its outcome, in the order asked: a state, or an error where it may still be billed."""
    clock = ManualClock(auto=True)
    outcomes: dict[str, Answer] = {
        "a": DELETING,
        "mistyped": GONE,
        "b": reply({"status": "TERMINATED", "id": "b"}),
        "forbidden": reply({"detail": "not yours"}, 403),
        "odd": Reply(200, b"<html>", headers=HTML),
        "down": Reply(503),
    }

    def answer(request: Received) -> Answer:
        if request.path == LIST:
            return reply(OTHERS)
        return outcomes[request.path.rpartition("/")[2]]

    async with Server(answer) as server, make_client(server.url, clock=clock) as client:
        deletions = await client.pods.delete_many([*outcomes, "a"])
        again = await client.pods.delete_many(["a", "mistyped"], missing_ok=True)
    assert dict(deletions) == {"a": PodState.DELETING, "b": PodState.TERMINATED}
    assert {pod_id: type(error) for pod_id, error in deletions.errors.items()} == {
        "mistyped": primepods.NotFoundError,
        "forbidden": primepods.PermissionDeniedError,
        "odd": primepods.ProtocolError,
        "down": primepods.ServerError,
    }
    assert list(deletions.errors) == ["mistyped", "forbidden", "odd", "down"]
    again.raise_for_errors()
    assert dict(again) == {"a": PodState.DELETING, "mistyped": PodState.TERMINATED}
    assert [request.path for request in server.requests].count("/api/v1/pods/a") == 2


async def deletions_of(statuses: dict[str, int]) -> primepods.Deletions:
    """What `delete_many` returns when the API answers so."""

    def answer(request: Received) -> Answer:
        if request.path == LIST:
            return reply(OTHERS)
        pod_id = request.path.rpartition("/")[2]
        status = statuses[pod_id]
        return (
            reply({"status": "DELETING", "id": pod_id}) if status == 200 else reply({"detail": "no"}, status)
        )

    async with Server(answer) as server, make_client(server.url, retry=ONCE) as client:
        return await client.pods.delete_many(statuses)


async def test_one_failed_deletion_is_raised_as_it_is() -> None:
    """So that it can be caught by its kind; its traceback is that of the last call alone."""
    deletions = await deletions_of({"a": 200, "b": 403})
    for _ in range(2):
        with pytest.raises(primepods.PermissionDeniedError) as caught:
            deletions.raise_for_errors()
        assert caught.value is deletions.errors["b"]
        assert len(caught.traceback) == 2


async def test_failed_deletions_are_raised_as_a_group() -> None:
    """It can be caught by the kinds in it, as a group, and as an error of this package; it is pickled."""
    deletions = await deletions_of({"a": 403, "b": 404, "c": 403, "d": 200})
    with pytest.raises(primepods.PrimePodsError, match="deletion of 3 of 4 pods is not confirmed") as caught:
        deletions.raise_for_errors()
    group = caught.value
    assert isinstance(group, primepods.PrimePodsErrorGroup)
    assert isinstance(group, ExceptionGroup)
    assert group.exceptions == tuple(deletions.errors.values())
    copy = pickle.loads(pickle.dumps(group))
    assert [type(error) for error in copy.exceptions] == [type(error) for error in group.exceptions]
    refused, rest = group.split(primepods.PermissionDeniedError)
    assert isinstance(refused, primepods.PrimePodsErrorGroup)
    assert [len(part.exceptions) for part in (refused, rest) if part is not None] == [2, 1]


def status_rows(request: Received, **states: str) -> Reply:
    """What the status endpoint says: DELETING where nothing else is said, no row for GONE."""
    states = {pod_id: states.get(pod_id, "DELETING") for pod_id in request.values("pod_ids")}
    rows = [{"podId": pod_id, "providerType": "p", "status": state} for pod_id, state in states.items()]
    return reply({"data": [row for row in rows if row["status"] != "GONE"]})


async def test_many_are_confirmed_together() -> None:
    """Where responses name no pod, it takes one request more for a hundred pods."""
    deleting = reply({"status": "DELETING"})

    def answer(request: Received) -> Answer:
        return status_rows(request) if request.path == STATUS else deleting

    async with Server(answer) as server, make_client(server.url) as client:
        deletions = await client.pods.delete_many(f"p{n}" for n in range(250))
    assert set(deletions.values()) == {PodState.DELETING}
    assert methods(server) == "D" * 250 + "S" * 3


async def test_many_are_proved_one_by_one_where_it_takes_that() -> None:
    """Each as a single one: absent, ACTIVE again, without a row, or in the list only."""
    clock = ManualClock(auto=True)
    sent: list[str] = []

    def answer(request: Received) -> Answer:
        pod_id = request.path.rpartition("/")[2]
        if request.path == STATUS:
            state = "ACTIVE" if sent.count("lost") == 1 else "DELETING"
            return status_rows(request, absent="GONE", lost=state, unread="GONE", ghost="GONE")
        if request.path == LIST:
            return listed("ghost", "others")
        if request.method == "GET":
            return GONE if pod_id in {"absent", "ghost"} else reply({"id": pod_id, "status": "TERMINATED"})
        sent.append(pod_id)
        return Reply(204) if pod_id == "unread" else reply({"status": "DELETING"})

    ids = ["absent", "lost", "unread", "ghost", "plain"]
    async with Server(answer) as server, make_client(server.url, clock=clock) as client:
        deletions = await client.pods.delete_many(ids)
    assert {pod_id: str(state) for pod_id, state in deletions.items()} == {
        "absent": "TERMINATED",
        "lost": "DELETING",
        "unread": "TERMINATED",
        "plain": "DELETING",
    }
    assert {pod_id: type(error) for pod_id, error in deletions.errors.items()} == {
        "ghost": primepods.ProtocolError
    }
    assert {pod_id: sent.count(pod_id) for pod_id in ids} == {**dict.fromkeys(ids, 1), "lost": 2, "ghost": 5}


async def test_a_missing_row_of_a_pod_whose_deletion_nothing_has_accepted_proves_nothing() -> None:
    """Neither with a list without it: `get` shows that it is still ACTIVE."""

    def answer(request: Received) -> Answer:
        if request.path in {STATUS, LIST}:
            return listed()
        return (
            Reply(204) if request.method == "DELETE" else reply({"id": request.path[-1], "status": "ACTIVE"})
        )

    async with Server(answer) as server, make_client(server.url, retry=ONCE) as client:
        deletions = await client.pods.delete_many(["a", "b"])
    assert (dict(deletions), set(deletions.errors)) == ({}, {"a", "b"})


async def test_many_are_looked_at_one_by_one_where_statuses_fail() -> None:
    """An endpoint that is down makes it slower, and no deletion a failure."""
    clock = ManualClock(auto=True)

    def answer(request: Received) -> Answer:
        if request.path == STATUS:
            return reply({"detail": "no"}, 500)
        return (
            Reply(204)
            if request.method == "DELETE"
            else reply({"id": request.path[-1], "status": "DELETING"})
        )

    async with Server(answer) as server, make_client(server.url, clock=clock) as client:
        assert set((await client.pods.delete_many(["a", "b", "c"])).values()) == {PodState.DELETING}


async def test_delete_many_is_concurrent_within_the_bound() -> None:
    """A fleet is deleted as fast as the client may ask, and no faster."""
    event = asyncio.Event()

    def answer(request: Received) -> Answer:
        return status_rows(request) if request.path == STATUS else Held(event, DELETING)

    async with serve(answer, max_concurrency=7) as (server, client):
        before = len(asyncio.all_tasks())
        task = asyncio.create_task(client.pods.delete_many(f"p{n}" for n in range(300)))
        await settle()
        # Seven workers and the server's seven handlers: no task a pod.
        assert len(asyncio.all_tasks()) - before <= 2 * 7 + 2
        event.set()
        deletions = await task
    assert len(deletions) == 300
    assert server.most_in_flight == 7


async def test_a_cancelled_delete_many_sends_no_more() -> None:
    """Cancelling it ends what is under way and begins nothing new; no task is left."""
    before = asyncio.all_tasks()
    async with Server(default=Hang()) as server, make_client(server.url, max_concurrency=4) as client:
        task = asyncio.create_task(client.pods.delete_many([f"p{n}" for n in range(50)]))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert (len(server.requests), server.in_flight) == (4, 0)
    await settle()
    assert asyncio.all_tasks() == before


async def test_a_worker_that_somebody_cancels_leaves_nothing_undone() -> None:
    """One of the tasks of a call about many is cancelled, but not the call: every pod is deleted."""
    event = asyncio.Event()
    before = asyncio.all_tasks()

    def answer(request: Received) -> Answer:
        return status_rows(request) if request.path == STATUS else Held(event, DELETING)

    async with Server(answer) as server, make_client(server.url) as client:
        call = asyncio.create_task(client.pods.delete_many(["a", "b", "c"]))
        await settle()
        workers = [task for task in asyncio.all_tasks() - before - {call} if "map_bounded" in repr(task)]
        workers[0].cancel()
        await settle()
        event.set()
        assert list(await call) == ["a", "b", "c"]


async def test_a_closed_client_deletes_nothing_and_says_so_for_each() -> None:
    """Not even then does a deletion look done."""
    client = make_client("http://127.0.0.1:1")
    await client.aclose()
    deletions = await client.pods.delete_many(["a", "b"])
    assert len(deletions) == 0
    assert {type(error) for error in deletions.errors.values()} == {primepods.ClientClosedError}
