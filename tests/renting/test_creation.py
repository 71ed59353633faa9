"""Creating pods: what is sent, what proves what, and what becomes of an order whose answer is lost."""

import asyncio
import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

import primepods
from primepods import CreateUncertainError, RetryPolicy
from primepods._utils.unique_names import unique_name as make_unique
from primepods.leasing._lease_record import new_record
from primepods.leasing.ledger import LeaseFile
from tests.renting.api import Api, Row, pod_row, spec, unique_name
from tests.renting.stage import name_of
from tests.support.client import make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Close, Hang, Raw, Reply, Reset, refused_url, reply

HTML = {"Content-Type": "text/html"}
PAGE = b"<html><title>Gateway</title></html>"


async def test_an_order_is_one_post_with_the_specs_fields() -> None:
    """The body has the wire's names and nothing that was not given; the answer is the pod."""
    api = Api(ManualClock())
    order = spec(
        name=unique_name(),
        disk_size=100,
        max_price=1.9,
        env_vars={"HF_TOKEN": "hf", "EMPTY": ""},
        jupyter_password="jp",
        ssh_key_id="key",
        auto_restart=False,
        data_center_id="CANADA-1",
        disks=["d1"],
        team_id="team",
        prepaid_for_hr=24,
        team_member_ids=["ann", "bob"],
        shared_with_team=True,
    )
    async with api.server, make_client(api.server.url) as client:
        pod = await client.pods.create(order)
    assert (pod.id, pod.name) == ("made-0", order.name)
    assert api.requests == "LLP"
    assert api.orders == [
        {
            "pod": {
                "name": order.name,
                "cloudId": "n3-H100x1",
                "gpuType": "H100_80GB",
                "socket": "PCIe",
                "gpuCount": 1,
                "diskSize": 100,
                "maxPrice": 1.9,
                "dataCenterId": "CANADA-1",
                "jupyterPassword": "jp",
                "sshKeyId": "key",
                "autoRestart": False,
                "prepaidForHr": 24,
                "envVars": [{"key": "HF_TOKEN", "value": "hf"}, {"key": "EMPTY", "value": ""}],
            },
            "provider": {"type": "hyperstack"},
            "disks": ["d1"],
            "team": {"teamId": "team"},
            "team_member_ids": ["ann", "bob"],
            "shared_with_team": True,
        }
    ]


async def test_the_clients_team_pays_unless_the_spec_names_one() -> None:
    """`team_id` of the client goes into the body; that of a spec goes before."""
    api = Api(ManualClock())
    async with api.server, make_client(api.server.url, team_id="ours") as client:
        await client.pods.create(spec())
        await client.pods.create(spec(team_id="theirs"))
    assert [order["team"]["teamId"] for order in api.orders] == ["ours", "theirs"]


@pytest.mark.parametrize(("max_price", "warnings"), [(1.0, 1), (1.9, 0), (None, 0)])
async def test_a_price_above_the_limit_is_told(
    caplog: pytest.LogCaptureFixture, max_price: float | None, warnings: int
) -> None:
    """The API has made the pod all the same: its id is returned, and the price is in the log."""
    api = Api(ManualClock())
    async with api.server, make_client(api.server.url) as client:
        pod = await client.pods.create(spec(max_price=max_price))
    assert caplog.text.count(f"pod {pod.id} costs $1.90 an hour, more than max_price=1") == warnings


async def test_all_requests_about_an_order_are_for_its_team() -> None:
    """The client's own team would not show its pods, and each `ensure` would rent another one."""
    clock, name = ManualClock(auto=True), unique_name()
    api = Api(clock, order=lambda _: Reset())
    async with api.server, make_client(api.server.url, clock=clock, team_id="ours") as client:
        pod = await client.pods.create(spec(name=name, team_id="theirs"))
        assert (await client.pods.ensure(spec(name=name, team_id="theirs"))).id == pod.id
    assert {request.headers["x-prime-team-id"] for request in api.server.requests} == {"theirs"}


async def test_a_template_is_ordered_with_its_image() -> None:
    """A template without an image has the one image that takes templates."""
    api = Api(ManualClock())
    async with api.server, make_client(api.server.url) as client:
        await client.pods.create(spec(custom_template_id="t"))
    assert api.orders[0]["pod"]["image"] == "custom_template"


async def test_a_spec_without_a_name_makes_a_new_one_each_time() -> None:
    """Names are random, of letters that any provider takes, and the spec stays as it is."""
    api, order = Api(ManualClock()), spec()
    clock = ManualClock(chance=Random(7))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        names = [(await client.pods.create(order)).name for _ in range(5)]
    assert len(set(names)) == 5
    assert all(re.fullmatch("primepods-[0-9a-hjkmnp-tv-z]{10}", str(name)) for name in names)
    assert order.name is None


async def test_names_do_not_depend_on_the_programs_seed() -> None:
    """Programs that seed Python's generator alike do not order under the same name."""
    import random

    api, names = Api(ManualClock()), []
    async with api.server, make_client(api.server.url) as client:
        for _ in range(2):
            random.seed(1)
            names.append((await client.pods.create(spec())).name)
    assert names[0] != names[1]


def renamed(row: Row) -> Answer:
    """The answer to somebody else's order."""
    return reply(row | {"name": "primepods-other", "id": "other"})


VAGUE: dict[str, Callable[[Row], Answer]] = {
    "reset": lambda _: Reset(),
    "closed": lambda _: Close(),
    "no answer": lambda _: Hang(),
    "cut": lambda row: Reply(200, reply(row).body, cut=20),
    "no HTTP": lambda _: Raw(b"\0\0\0\0\r\n\r\n"),
    "200 and HTML": lambda _: Reply(200, PAGE, headers=HTML),
    "200 and nothing": lambda _: Reply(200),
    "204": lambda _: Reply(204),
    "no object": lambda _: reply([]),
    "no id": lambda row: reply(row | {"id": None}),
    "unreadable": lambda row: reply(row | {"gpuCount": "many"}),
    "another order's": renamed,
    "500": lambda _: reply({"detail": "Internal error"}, 500),
    "500, sold out": lambda _: reply({"detail": "n3-H100x1 is sold out"}, 500),
    "501": lambda _: reply({"detail": "Not implemented"}, 501),
    "502": lambda _: Reply(502, PAGE, headers=HTML),
    "504": lambda _: Reply(504),
    "408": lambda _: reply({"detail": "Timeout"}, 408),
    "404 page": lambda _: Reply(404, PAGE, headers=HTML),
    "403 page": lambda _: Reply(403, PAGE, headers=HTML),
    "409": lambda _: reply({"detail": "Name taken"}, 409),
    "409, sold out": lambda _: reply({"detail": "Not enough capacity"}, 409),
    "499": lambda _: reply({"detail": "Client closed request"}, 499),
    "400 in text": lambda _: Reply(400, b"bad request", headers={"Content-Type": "text/plain"}),
    "303": lambda _: Reply(303, headers={"Location": "/made"}),
}


@pytest.mark.parametrize("answer", VAGUE.values(), ids=VAGUE)
async def test_a_pod_whose_answer_was_lost_is_found(answer: Callable[[Row], Answer]) -> None:
    """It is looked for by its name until it appears; the order is sent once."""
    clock = ManualClock(auto=True, chance=Random(12))
    api = Api(clock, order=answer, appears=12.0)
    api.add(pod_row("another", clock.wall(), "another"))
    async with api.server, make_client(api.server.url, clock=clock, timeout=5) as client:
        pod = await client.pods.create(spec(name=unique_name()))
    assert pod.id == "made-0"
    assert api.requests.count("P") == 1


@pytest.mark.parametrize("answer", VAGUE.values(), ids=VAGUE)
async def test_an_order_without_proof_or_pod_is_uncertain(answer: Callable[[Row], Answer]) -> None:
    """After twenty seconds of looking the error says so, names the pod, and what to do."""
    clock = ManualClock(auto=True)
    api = Api(clock, order=answer, appears=30.0)
    name = unique_name()
    async with api.server, make_client(api.server.url, clock=clock, timeout=5) as client:
        with pytest.raises(CreateUncertainError, match=rf"{name}.*no pod has this name.*pods.list") as caught:
            await client.pods.create(spec(name=name))
    assert caught.value.name == name
    assert caught.value.__cause__ is not None
    assert api.requests.count("P") == 1
    assert 20 <= clock.elapsed < 26
    assert api.requests.count("L") <= 20
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.name, str(copy)) == (name, str(caught.value))


@pytest.mark.parametrize("appears", [0.0, 12.0])
@pytest.mark.parametrize("skew", [-3600.0, -300.0, 10_800.0])
async def test_no_clock_says_whose_a_pod_is(appears: float, skew: float) -> None:
    """This machine's may be wrong by hours: a unique name is found, and so is a new pod of a chosen one."""
    clock = ManualClock(auto=True, chance=Random(appears))
    api = Api(clock, order=lambda _: Reset(), appears=appears, skew=skew)
    name = unique_name()
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.create(spec())).id == "made-0"
        assert (await client.pods.create(spec(name=name))).id == "made-1"


@pytest.mark.parametrize("ages", [[30.0], [-300.0], [7_200.0, 30.0], [None]], ids=str)
async def test_a_namesake_is_neither_taken_nor_deleted(ages: list[float | None]) -> None:
    """Pods that had the name before the order are another's, however young, and named in the error."""
    clock = ManualClock(auto=True)
    api, name = Api(clock, order=lambda _: Reset(), makes=False), unique_name()
    for number, age in enumerate(ages):
        api.add(pod_row(name, None if age is None else clock.wall() - age, f"other-{number}"))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        with pytest.raises(CreateUncertainError, match="none is provably of this order: other-0") as caught:
            await client.pods.create(spec(name=name))
    assert caught.value.candidates == tuple(f"other-{number}" for number in range(len(ages)))
    assert {request.method for request in api.server.requests} == {"POST", "GET"}


async def test_a_new_pod_beside_an_older_one_is_found() -> None:
    """An older namesake changes nothing."""
    clock = ManualClock(auto=True)
    api, name = Api(clock, order=lambda _: Reset()), unique_name()
    api.add(pod_row(name, clock.wall() - 10, "older"))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.create(spec(name=name))).id == "made-0"


async def test_a_namesake_that_a_replica_hid_is_not_taken() -> None:
    """A replica lags when the namesakes are listed: the server's own times say that it is older."""
    clock = ManualClock(auto=True)
    api, name = Api(clock, order=lambda _: Reset(), makes=False), unique_name()
    api.rows.append((1.0, pod_row(name, clock.wall() - 100, "hidden")))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        with pytest.raises(CreateUncertainError, match="hidden"):
            await client.pods.create(spec(name=name))


@pytest.mark.parametrize("team", [None, "team"])
@pytest.mark.parametrize("timeout", [None, 20.0])
async def test_an_earlier_pod_of_the_name_is_not_taken(team: str | None, timeout: float | None) -> None:
    """The client has just ordered it, and no list shows it yet; also with a team, or in another view."""
    clock, name = ManualClock(auto=True), unique_name()
    api = Api(clock, order=lambda row: reply(row) if len(api.orders) == 1 else Reset(), appears=3.0)
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.create(spec(name=name, team_id=team))).id == "made-0"
        api.makes = False
        view = client if timeout is None else client.with_options(timeout=timeout)
        with pytest.raises(CreateUncertainError, match="none is provably of this order: made-0"):
            await view.pods.create(spec(name=name, team_id=team))


async def test_two_new_pods_of_a_chosen_name_are_nobodys() -> None:
    """One may be another machine's."""
    clock = ManualClock(auto=True)
    api, name = Api(clock, order=lambda _: Reset(), appears=2.0), unique_name()
    api.rows.append((2.0, pod_row(name, clock.wall() + 1, "theirs")))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        with pytest.raises(CreateUncertainError) as caught:
            await client.pods.create(spec(name=name))
    assert set(caught.value.candidates) == {"made-0", "theirs"}


async def test_a_pod_of_a_lease_is_not_taken_for_an_order(folder: Path) -> None:
    """Its id stands in the file of a lease of this machine, and a file that cannot be read may name any."""
    clock = ManualClock(auto=True)
    api, name = Api(clock, order=lambda _: Reset()), unique_name()
    async with api.server, make_client(api.server.url, clock=clock) as client:
        record = new_record(name_of(), client._executor.settings)
        file = await asyncio.to_thread(LeaseFile.new(folder, attrs.evolve(record, pod_id="made-0")).write)
        with pytest.raises(CreateUncertainError, match="made-0"):
            await client.pods.create(spec(name=name))
        file.remove()
        await asyncio.to_thread((folder / "odd.json").write_text, "{}")
        with pytest.raises(CreateUncertainError, match="made-1"):
            await client.pods.create(spec(name=unique_name()))


async def test_an_order_is_not_sent_when_its_namesakes_cannot_be_listed() -> None:
    """Afterwards nobody could tell which pod is new; one row without an id takes only the proof."""
    clock, name = ManualClock(auto=True), unique_name()
    api = Api(clock, listing=lambda _: reply({"detail": "no"}, 403))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        with pytest.raises(primepods.PermissionDeniedError):
            await client.pods.create(spec(name=name))
    assert api.orders == []
    api = Api(clock, order=lambda _: Reset())
    api.add(pod_row("fine", 0.0, "fine"))
    api.add(pod_row("broken", 0.0, "broken") | {"id": []})
    async with api.server, make_client(api.server.url, clock=clock) as client:
        with pytest.raises(CreateUncertainError, match="made-0"):
            await client.pods.create(spec(name=name))
        assert (await client.pods.create(spec())).id == "made-1"


async def test_an_older_pod_in_the_response_is_not_taken() -> None:
    """A server answers 200 with a namesake of two hours ago."""
    clock, name = ManualClock(auto=True), unique_name()
    older = pod_row(name, clock.wall() - 7_200, "older")
    api = Api(clock, order=lambda _: reply(older), makes=False)
    api.add(older)
    async with api.server, make_client(api.server.url, clock=clock) as client:
        with pytest.raises(CreateUncertainError) as caught:
            await client.pods.create(spec(name=name))
    assert caught.value.candidates == ("older",)


def respelled(change: Callable[[str], str]) -> Callable[[Row], Row]:
    """What a server makes of a pod whose name it changes."""
    return lambda row: row | {"name": change(row["name"])}


SPELLINGS: dict[str, Callable[[str], str]] = {
    "lower case": str.lower,
    "upper case": str.upper,
    "blanks": lambda name: f" {name} ",
    "slug": lambda name: name.replace(" ", "-"),
    "none": lambda _: "",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("order", [reply, lambda _: Reset()], ids=["answered", "lost"])
@pytest.mark.parametrize("name", [None, "My Job"])
async def test_a_server_may_change_names(
    spelling: str, order: Callable[[Row], Answer], name: str | None
) -> None:
    """The pod is found, by its id where there is a response, else by a name that is spelled otherwise."""
    clock = ManualClock(auto=True, chance=Random(1))
    change = SPELLINGS[spelling]
    is_lost = order is not reply
    if (spelling == "none" and (is_lost or name is None)) or (
        is_lost and name is not None and spelling == "slug"
    ):
        pytest.skip("nothing is left to find it by")
    made = respelled(lambda text: change(text) or None)  # type: ignore[arg-type, return-value]  # a server may drop the name
    api = Api(clock, order=order, changes=made)
    async with api.server, make_client(api.server.url, clock=clock) as client:
        pod = await client.pods.create(spec(name=name and f"{name} {unique_name()}"))
    assert (pod.id, len(api.orders)) == ("made-0", 1)


async def test_a_unique_name_may_be_cut_behind_its_suffix() -> None:
    """A name that is cut before its end proves nothing, also in a response: the id is told."""
    clock = ManualClock(auto=True)
    long = make_unique("a" * 60, Random(3).random, 1_800_000_000)
    api = Api(clock, order=lambda _: Reset(), changes=respelled(lambda text: text[:58]))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.create(spec(name=long))).id == "made-0"
    api = Api(clock, changes=respelled(lambda text: text[:10]))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        with pytest.raises(CreateUncertainError) as caught:
            await client.pods.create(spec())
    assert caught.value.candidates == ("made-0",)


@pytest.mark.parametrize("change", [{"gpuCount": "many"}, {"name": "primepods-other"}], ids=str)
async def test_an_id_in_a_response_is_looked_at(change: Row) -> None:
    """Whatever else is wrong with it: `get` shows whose it is."""
    clock = ManualClock(auto=True)
    api = Api(clock, order=lambda row: reply(row | change), listing=lambda _: reply({"detail": "no"}, 503))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.create(spec())).id == "made-0"


async def test_an_id_that_get_does_not_know_is_told() -> None:
    """The list shows another pod of the name, which is taken; without one, the id is a candidate."""
    clock = ManualClock(auto=True)
    for makes in (True, False):
        api = Api(clock, order=lambda row: reply(row | {"id": "wrong", "gpuCount": "many"}), makes=makes)
        async with api.server, make_client(api.server.url, clock=clock) as client:
            if makes:
                assert (await client.pods.create(spec())).id == "made-0"
                continue
            with pytest.raises(CreateUncertainError, match="wrong") as caught:
                await client.pods.create(spec())
            assert caught.value.candidates == ("wrong",)


@pytest.mark.parametrize("theirs", [None, "experiment"])
@pytest.mark.parametrize("name", [None, "experiment-7"])
async def test_an_id_of_an_older_pod_is_not_taken(name: str | None, theirs: str | None) -> None:
    """A response about another pod, whose name it lacks, or which is the beginning of what was ordered."""
    clock = ManualClock(auto=True, chance=Random(1))
    older = pod_row(theirs, clock.wall() - 7_200, "older")
    api = Api(clock, order=lambda _: reply(older))
    api.add(older | {"name": theirs or "theirs"})
    order = spec(name=name) if name else spec(name=make_unique("experiment", Random(1).random))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.create(order)).id == "made-0"


@pytest.mark.parametrize("pod_id", ["", "../older", " made-0", "x" * 5_000])
async def test_an_id_that_can_be_none_is_no_proof(pod_id: str) -> None:
    """No request could be sent about such a pod: it is looked for by its name."""
    clock = ManualClock(auto=True)
    api = Api(clock, order=lambda row: reply(row | {"id": pod_id}))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.create(spec())).id == "made-0"


async def test_the_name_is_told_before_the_order(caplog: pytest.LogCaptureFixture) -> None:
    """A process that is killed while it orders has said what to look for."""
    api = Api(ManualClock(), order=lambda _: Hang())
    name = spec().named().name
    assert spec(name=name).named().name == name
    with caplog.at_level(logging.INFO, logger="primepods"):
        async with api.server, make_client(api.server.url) as client:
            task = asyncio.create_task(client.pods.create(spec(name=name)))
            await settle()
            assert api.requests == "P"
            assert repr(name) in caplog.text
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_two_orders_of_a_name_at_once_never_share_a_pod() -> None:
    """While both are under way, a new pod could be either's."""
    clock, name = ManualClock(), unique_name()
    api = Api(clock, order=lambda _: Reset(), makes=False)
    async with api.server, make_client(api.server.url, clock=clock) as client:
        first = asyncio.create_task(client.pods.create(spec(name=name)))
        await settle()
        api._order, api.makes = reply, True
        assert (await client.pods.create(spec(name=name))).id == "made-1"
        await clock.advance(30)
        with pytest.raises(CreateUncertainError, match="none is provably of this order: made-1"):
            await first


REFUSALS: dict[str, tuple[int, Any, type[primepods.PrimePodsError], str]] = {
    "sold out": (400, {"detail": "n3-H100x1 is sold out"}, primepods.SoldOutError, "availability.find"),
    "no capacity": (400, {"detail": "Not enough capacity"}, primepods.SoldOutError, "availability.find"),
    "price": (
        400,
        {"detail": "The price is 2 per hour, above maxPrice 1.9"},
        primepods.PriceTooHighError,
        "raise `max_price`",
    ),
    "no price": (
        400,
        {"detail": "Missing field: max_price not specified"},
        primepods.BadRequestError,
        "set `PodSpec.max_price`",
    ),
    "funds": (402, {"detail": "Insufficient funds"}, primepods.PaymentRequiredError, "Add funds"),
    "funds as 400": (400, {"error": "Insufficient balance"}, primepods.PaymentRequiredError, "Add funds"),
    "permission": (
        403,
        {"detail": "Not allowed"},
        primepods.PermissionDeniedError,
        "Instances (Read and Write)",
    ),
    "key": (401, {"detail": "Invalid token"}, primepods.AuthenticationError, "API key"),
    "offer": (404, {"detail": "No such offer"}, primepods.NotFoundError, "availability.find"),
    "image": (
        400,
        {"detail": "Image x is not available for this"},
        primepods.BadRequestError,
        "Correct what",
    ),
    "field": (
        422,
        {"errors": [{"param": "gpuCount", "details": "too many"}]},
        primepods.ValidationError,
        "gpuCount",
    ),
    "too often": (429, {"message": "Too many requests"}, primepods.RateLimitError, "Too many"),
}


@pytest.mark.parametrize(("status", "body", "kind", "remedy"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_says_why_and_what_to_do(
    status: int, body: Any, kind: type[primepods.APIError], remedy: str
) -> None:
    """In the API's own words: its own class, its remedy; the list shows no pod of the unique name."""
    api = Api(ManualClock(), order=lambda _: reply(body, status), makes=False)
    # Without retries, or the order would be sent again after a 429.
    async with api.server, make_client(api.server.url, retry=primepods.RetryPolicy(attempts=1)) as client:
        with pytest.raises(primepods.APIError, match=re.escape(remedy)) as caught:
            await client.pods.create(spec())
    assert type(caught.value) is kind
    assert (caught.value.status_code, caught.value.body) == (status, body)
    assert api.requests == ("P" if status in {401, 403} else "PLL")


async def test_sold_out_as_a_server_error_is_the_cause() -> None:
    """A 500 proves nothing, so the call is uncertain; the cause says what the API meant."""
    clock = ManualClock(auto=True)
    api = Api(clock, order=lambda _: reply({"detail": "Sold out"}, 500), makes=False)
    async with api.server, make_client(api.server.url, clock=clock) as client:
        with pytest.raises(CreateUncertainError, match="Sold out") as caught:
            await client.pods.create(spec())
    assert type(caught.value.__cause__) is primepods.SoldOutError
    assert caught.value.__cause__.transient


async def test_an_order_that_never_left_is_repeated_and_not_uncertain() -> None:
    """Nobody listens: that is tried as often as the policy says, and proves that nothing was made."""
    clock = ManualClock(auto=True)
    async with make_client(refused_url(), clock=clock, retry=RetryPolicy(attempts=3)) as client:
        with pytest.raises(primepods.TransportError) as caught:
            await client.pods.create(spec())
    assert (caught.value.attempts, caught.value.maybe_received) == (3, False)


async def test_a_client_closed_meanwhile_leaves_it_uncertain() -> None:
    """The order was on its way when the client was closed, and nobody can look any more."""
    clock = ManualClock()
    api = Api(clock, order=lambda _: Hang())
    async with api.server:
        client = make_client(api.server.url, clock=clock)
        task = asyncio.create_task(client.pods.create(spec()))
        await settle()
        assert api.requests == "P"
        await client.aclose()
        with pytest.raises(CreateUncertainError):
            await task


@pytest.mark.parametrize("lost", [False, True], ids=["while ordering", "while looking"])
async def test_cancelling_names_the_pod_and_breaks_nothing(
    *, lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The cancellation passes as it is; the pod's name is in a note and in the log; the client goes on."""
    clock, name = ManualClock(), unique_name()
    api = Api(clock, order=lambda _: Reset() if lost else Hang(), makes=False)
    async with api.server, make_client(api.server.url, clock=clock) as client:
        task = asyncio.create_task(client.pods.create(spec(name=name)))
        await settle()
        assert not task.done()
        task.cancel("enough")
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("enough",)
        assert name in caught.value.__notes__[0]
        assert name in caplog.records[-1].getMessage()
        assert [pod async for pod in client.pods.list()] == []


async def test_a_list_that_fails_is_asked_again() -> None:
    """Looking goes on through failures of the list."""
    clock = ManualClock(auto=True)
    bad = iter([Reset(), reply({"detail": "down"}, 503), Reply(200, PAGE, headers=HTML)] * 5)

    def listing(rows: list[Row]) -> Answer:
        fallback = {"total_count": len(rows), "offset": 0, "limit": 100, "data": rows}
        return next(bad, reply(fallback))

    api = Api(clock, order=lambda _: Reset(), listing=listing)
    async with (
        api.server,
        make_client(api.server.url, clock=clock, retry=RetryPolicy(attempts=2, base_delay=0)) as client,
    ):
        assert (await client.pods.create(spec())).id == "made-0"


@pytest.mark.parametrize("answer", [Hang(), reply({"detail": "down"}, 503)], ids=["hangs", "fails"])
async def test_a_list_that_cannot_be_read_ends_the_looking_in_time(answer: Answer) -> None:
    """The error says that the list could not be read."""
    clock = ManualClock(auto=True)
    api = Api(clock, order=lambda _: Reset(), listing=lambda _: answer)
    async with api.server, make_client(api.server.url, clock=clock, timeout=10) as client:
        with pytest.raises(CreateUncertainError, match=r"\(the list could not be read.*[^.]\)\. It may"):
            await client.pods.create(spec())
    assert clock.elapsed <= 30


async def test_secrets_are_in_no_message_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the password nor a variable's value shows, whatever the API repeats."""
    clock = ManualClock(auto=True)
    order = spec(jupyter_password="hunter2-secret", env_vars={"HF_TOKEN": "hf-secret"})
    refusal = {
        "detail": [{"loc": ["body", "pod"], "msg": "bad", "input": {"jupyterPassword": "hunter2-secret"}}]
    }
    api = Api(clock, order=lambda _: reply(refusal, 422), makes=False)
    async with api.server, make_client(api.server.url, clock=clock) as client:
        with caplog.at_level(logging.DEBUG), pytest.raises(primepods.ValidationError) as caught:
            await client.pods.create(order)
        api._order = lambda row: Reply(
            200, reply(row | {"id": None, "jupyterPassword": "hunter2-secret"}).body
        )
        with caplog.at_level(logging.DEBUG), pytest.raises(CreateUncertainError) as uncertain:
            await client.pods.create(order)
    text = f"{caught.value} {uncertain.value} {uncertain.value.__cause__} {order!r} {caplog.text}"
    assert "secret" not in text
    assert "HF_TOKEN" in repr(order)


async def test_ensure_returns_the_pod_that_lives() -> None:
    """By exactly its name, the oldest of several; one that has failed or is on its way out does not count."""
    clock, name = ManualClock(auto=True), unique_name()
    api = Api(clock)
    for number, status in enumerate(["ERROR", "STOPPED", "DELETING", "ACTIVE", "PROVISIONING"]):
        api.add(pod_row(name, clock.wall() - 100 + number, f"other-{number}") | {"status": status})
    api.add(pod_row(f"{name}-2", clock.wall(), "longer"))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        assert (await client.pods.ensure(spec(name=name))).id == "other-3"
        assert (await client.pods.ensure(spec(name=name.upper()))).id == "other-3"
        assert api.orders == []
        made = await client.pods.ensure(spec(name="another"))
        assert (made.id, (await client.pods.ensure(spec(name="another"))).id) == ("made-0", "made-0")
        with pytest.raises(ValueError, match="name"):
            await client.pods.ensure(spec())
        api.add(pod_row("broken", 0.0, "broken") | {"id": []})
        assert (await client.pods.ensure(spec(name=name))).id == "other-3"
        with pytest.raises(primepods.ProtocolError):
            await client.pods.ensure(spec(name="a third"))
    assert len(api.orders) == 1


@pytest.mark.parametrize("skew", [-26, -5, 5, 26])
async def test_no_pod_expires_by_an_unknown_time(skew: int) -> None:
    """Nothing is ordered then, by no call: a name from `max_hours` always has its expiry."""
    clock = ManualClock(auto=True)
    api = Api(clock, skew=3600.0 * skew, makes=False, order=lambda _: reply({"detail": "no such offer"}, 400))
    async with api.server, make_client(api.server.url, clock=clock) as client:
        for call in (
            client.pods.create(spec(name="ci"), max_hours=2),
            client.pods.ensure(spec(name="ci"), max_hours=2),
            client.pods.lease(spec(name="ci"), max_hours=2).__aenter__(),
        ):
            with pytest.raises(
                primepods.ProtocolError, match=r"nothing is ordered.* hours (ahead of|behind) this machine"
            ):
                await call
    assert api.orders == []


async def test_an_api_that_cannot_be_reached_is_said_as_that() -> None:
    """And not as a time that is unknown."""
    async with make_client(refused_url(), clock=ManualClock(auto=True)) as client:
        with pytest.raises(primepods.TransportError):
            await client.pods.create(spec(name="ci"), max_hours=2)
