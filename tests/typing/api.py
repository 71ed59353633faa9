"""What both type checkers infer from the public API; read by them, never executed.

Only what an annotation alone does not say: generic classes, overloads, the blocking side, which is derived
from the asynchronous one, and what must be refused.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any, Literal, assert_type

import aiohttp

import primepods
from primepods import (
    AsyncClient,
    AsyncJob,
    AsyncLeasedPod,
    AsyncPager,
    AsyncWatch,
    Client,
    CommandResult,
    Deletions,
    Disk,
    DiskOffer,
    FieldError,
    Forward,
    HistoryRecord,
    Job,
    Lease,
    LeasedPod,
    Offer,
    OutputLine,
    Page,
    Pager,
    Pod,
    PodChange,
    PodRef,
    PodSpec,
    PodState,
    PodStatus,
    PodStatuses,
    PrimePodsError,
    ProtocolError,
    Remote,
    SSHKey,
    Sweep,
    Team,
    TeamMember,
    Wallet,
    Watch,
    notebook,
)
from primepods.emulator import Emulator
from primepods.events import Event, LeaseReleased, RequestEnded
from primepods.fleet import Fleet


def events(event: Event) -> None:
    """What `on_event` is called with."""
    match event:
        case RequestEnded(route=route, status=status):
            assert_type(route, str | None)
            assert_type(status, int | None)
        case LeaseReleased(spent=spent):
            assert_type(spent, float)
        case _:
            assert_type(event.operations, tuple[int, ...])


class Mine(AsyncClient):
    """Views are of the class they are made from."""


class MyClient(Client):
    """The same."""


async def clients(session: aiohttp.ClientSession, mine: Mine, my_client: MyClient) -> None:
    """A session; `Self` on both sides."""
    AsyncClient(session=session, on_event=events)
    Client(on_event=events)
    async with mine as same:
        assert_type(same, Mine)
    with my_client as my_same:
        assert_type(my_same, MyClient)
    assert_type(mine.with_options(timeout=1), Mine)
    assert_type(my_client.with_options(timeout=1), MyClient)


async def references(client: AsyncClient, pod: Pod, status: PodStatus, leased: AsyncLeasedPod) -> None:
    """A pod, its status or a leased pod, where an id is meant."""
    refs: list[PodRef] = ["id", pod, status, leased]
    for ref in (pod, status, leased, refs[0]):
        assert_type(await client.pods.get(ref), Pod)
    page = await client.pods.page(offset=0, limit=10)
    assert_type(page, Page[Pod])
    assert_type(list(page), list[Pod])
    assert_type((page[0], page[1:], page.data), tuple[Pod, tuple[Pod, ...], tuple[Pod, ...]])
    assert_type(await client.pods.statuses(page), PodStatuses)
    assert_type(await client.pods.delete_many([pod, "id"]), Deletions)
    assert_type(await client.pods.wait(refs), PodStatuses)
    assert_type(client.pods.watch(page[1:]), AsyncWatch)
    await client.pods.get(page)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def listings(client: AsyncClient) -> None:
    """What is iterated, item by item and page by page."""
    assert_type([pod async for pod in client.pods.list(status=PodState.ACTIVE, name=["a", "b*"])], list[Pod])
    iterator: AsyncIterator[Page[Pod]] = client.pods.list().pages()
    assert_type(await anext(iterator), Page[Pod])
    async with aclosing(client.pods.list().pages()) as pages:
        assert_type(await anext(pages), Page[Pod])
    async with aclosing(aiter(client.pods.list())) as pods:
        assert_type(await anext(pods), Pod)
    async with client.pods.history(kind={"instance"}) as history:
        assert_type(history, AsyncPager[HistoryRecord])
        assert_type([page async for page in history.pages()], list[Page[HistoryRecord]])
    assert_type(await client.availability.find(gpu_type="H100", limit=3), list[Offer])
    gpus = client.availability.gpus(regions=("canada",))
    assert_type(await gpus.collect(), tuple[list[Offer], PrimePodsError | None])
    assert_type(await gpus.find(lambda offer: offer.gpu_count > 1), tuple[list[Offer], ProtocolError | None])


async def told(change: PodChange) -> None:
    """Called with each change, and awaited."""


def heard(change: PodChange) -> int:
    """Called with each change."""
    return len(change.pod_id)


async def waiting(client: AsyncClient, fleet: Fleet) -> None:
    """Conditions, callbacks and what is left like an iterator."""
    for until in (primepods.ready, primepods.failed, primepods.gone, primepods.settled):
        assert_type(await client.pods.wait({"id"}, until=until, on_change=fleet.add), PodStatuses)
    assert_type(await client.pods.wait(["id"], until=lambda status: status is None), PodStatuses)
    assert_type(await client.pods.wait_ready("id", on_change=told), PodStatus)
    assert_type(await client.pods.wait_ready("id", on_change=heard), PodStatus)
    async with client.pods.watch(["id"]) as watch:
        assert_type([change async for change in watch], list[PodChange])
    async with aclosing(aiter(watch)) as changes:
        assert_type(await anext(changes), PodChange)
    assert_type(await notebook.wait(client, ["a"], until=primepods.settled), PodStatuses)
    assert_type(await notebook.watch(client, duration=60), Fleet)


async def work(client: AsyncClient, pod: Pod, spec: PodSpec) -> None:
    """Leases, commands, forwards and jobs."""
    async with client.pods.lease([spec, spec], on_change=told, check=primepods.GPU_CHECK) as leased:
        assert_type(leased, AsyncLeasedPod)
        assert_type(await leased.run("true", on_line=print), CommandResult)
    async with client.pods.remote(pod).forward(8888) as forward:
        assert_type(forward.local_port, int)
    job = client.pods.remote(pod, node=1).job("train")
    assert_type(job, AsyncJob)
    async with job.output() as output:
        assert_type([line async for line in output], list[OutputLine])
    await output.aclose()


def blocking_calls(client: Client, pod: Pod, status: PodStatus, leased: LeasedPod, spec: PodSpec) -> None:
    """The type checkers infer parameters and results from the asynchronous method."""
    refs: list[PodRef] = ["id", pod, status, leased]
    assert_type(client.pods.get(refs[0]), Pod)
    assert_type(client.pods.delete(leased, missing_ok=True), PodState)
    assert_type(client.pods.delete_many(client.pods.list()), Deletions)
    assert_type(client.pods.wait(refs, until=primepods.settled, on_change=heard), PodStatuses)
    assert_type(client.pods.wait(pod.id for pod in client.pods.list()), PodStatuses)
    sweep = client.pods.sweep(dry_run=True)
    assert_type(client.pods.sweep(only=sweep), Sweep)
    assert_type(client.request("GET", "/api/v1/pods/", params={"limit": 1}, json=[1]), Any)
    assert_type(client.availability.cheapest(spot=True, max_price=2), Offer)
    assert_type(client.ssh_keys.add("name", "ssh-ed25519 AAAA"), SSHKey)
    assert_type(client.disks.wait_ready("id", timeout=60), Disk)
    assert_type(client.account.wallet(limit=5), Wallet)
    assert_type(notebook.wait(client, ["a"], timeout=60), PodStatuses)
    assert_type(notebook.watch(client, ["a"]), Fleet)
    lease = client.pods.lease(spec, on_change=heard, max_hours=1.5)
    assert_type(lease, Lease)
    with lease as mine:
        assert_type(mine, LeasedPod)
        assert_type(mine.run("true", on_line=print), CommandResult)


def blocking_iterations(client: Client) -> None:
    """The item of a pager or watch is that of its asynchronous counterpart."""
    assert_type(client.pods.list(page_size=50), Pager[Pod])
    assert_type(client.availability.gpus(), Pager[Offer])
    assert_type(client.availability.disks(), Pager[DiskOffer])
    assert_type(client.ssh_keys.list(), Pager[SSHKey])
    assert_type(client.disks.list(), Pager[Disk])
    assert_type(client.account.teams(), Pager[Team])
    assert_type(client.account.members("t"), Pager[TeamMember])
    iterator: Iterator[Page[Pod]] = client.pods.list().pages()
    assert_type(next(iterator), Page[Pod])
    with closing(client.pods.list().pages()) as pages, closing(iter(client.pods.list())) as pods:
        assert_type((next(pages), next(pods)), tuple[Page[Pod], Pod])
    with client.pods.history(page_size=50) as pager:
        assert_type(pager, Pager[HistoryRecord])
        assert_type((list(pager), list(pager.pages())), tuple[list[HistoryRecord], list[Page[HistoryRecord]]])
    gpus = client.availability.gpus(regions=("canada",))
    assert_type(gpus.collect(), tuple[list[Offer], PrimePodsError | None])
    assert_type(gpus.find(lambda offer: offer.gpu_count > 1), tuple[list[Offer], ProtocolError | None])
    with client.pods.watch(["id"], interval=1) as watch, closing(iter(watch)) as changes:
        assert_type((watch, next(changes)), tuple[Watch, PodChange])


def blocking_work(remote: Remote) -> None:
    """Commands, forwards and jobs of a pod."""
    assert_type(remote.run(["echo", "hi"], input=b"", on_line=print), CommandResult)
    assert_type(remote.run_all("true", env={}), tuple[CommandResult, ...])
    with remote.forward(8888) as forward:
        assert_type(forward, Forward)
        assert_type((forward.local_ports, forward.url), tuple[tuple[int, ...], str])
    job = remote.start("true", name="train")
    assert_type(job, Job)
    with job.output(offset=5) as output:
        assert_type(list(output), list[OutputLine])
    output.close()
    assert_type(remote.jobs(), tuple[Job, ...])


async def misuse(client: AsyncClient) -> None:
    """What the checkers must refuse: an `ignore` that is not needed is an error, too."""
    await client.pods.page(0, 10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.pods.history_page(sort_by="name")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.availability.gpus(gpu_count="8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.availability.multi_node(max_price=2.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.availability.find(max_pric=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.availability.cheapest(spot="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.pods.get(17)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.pods.delete("id", True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # noqa: FBT003 - wrong on purpose


def blocking_misuse(client: Client, session: aiohttp.ClientSession) -> None:
    """The same on the blocking side, and what only that refuses."""
    client.pods.page(0, 10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.pods.history(sort_by="name")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.availability.gpus(gpu_count="8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.availability.find(max_pric=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.availability.cheapest(spot="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.pods.get(17)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.pods.wait(["id"], until=print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.pods.wait(["id"], on_change=len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Client(session=session)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def wrapped(client: Client, until: primepods.Until, on_change: primepods.OnChange) -> PodStatuses:
    """A function of the user's that hands on what a wait takes."""
    return client.pods.wait(["id"], until=until, on_change=on_change)


def values(statuses: PodStatuses, deletions: Deletions, late: primepods.RequestTimeoutError) -> None:
    """Mappings, states of any name, and one of two words."""
    assert_type(dict(statuses), dict[str, PodStatus])
    assert_type(deletions["id"], PodState)
    assert_type(PodState("HIBERNATING"), PodState)
    assert_type(late.limit, Literal["timeout", "deadline"])


def errors(invalid: primepods.ValidationError) -> None:
    """Named tuples with the values of a complaint."""
    assert_type(invalid.errors, tuple[FieldError, ...])
    assert_type(invalid.errors[0].param, str)


async def emulator() -> None:
    """The emulator, in both ways to run it."""
    with Emulator(pods=2) as threaded:
        assert_type(threaded, Emulator)
    async with Emulator() as emu:
        assert_type(emu, Emulator)
