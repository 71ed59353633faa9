"""What both type checkers must make of the public API; read by them, never executed.

An `assert_type` that fails is a change that somebody's checker would notice.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, assert_type

import aiohttp

import primepods
from primepods import (
    Account,
    AccountInfo,
    APIError,
    AsyncAccountInfo,
    AsyncAvailability,
    AsyncClient,
    AsyncDisks,
    AsyncForward,
    AsyncJob,
    AsyncLease,
    AsyncLeasedPod,
    AsyncPager,
    AsyncPods,
    AsyncRemote,
    AsyncSSHKeys,
    AsyncWatch,
    Availability,
    Client,
    CommandResult,
    CreateUncertainError,
    Deletions,
    Disk,
    DiskOffer,
    Disks,
    DiskSpec,
    Endpoint,
    FieldError,
    Forward,
    GpuPrices,
    HistoryRecord,
    InstallationState,
    Job,
    JobState,
    Lease,
    LeasedPod,
    Node,
    Offer,
    OrphanedPod,
    OutputLine,
    Page,
    Pager,
    Pod,
    PodChange,
    PodRef,
    Pods,
    PodSpec,
    PodState,
    PodStatus,
    PodStatuses,
    PrimePodsError,
    ProtocolError,
    Remote,
    Resources,
    RetryPolicy,
    SkippedLease,
    SSHKey,
    SSHKeys,
    SSHTarget,
    Sweep,
    Team,
    TeamMember,
    Wallet,
    Watch,
    notebook,
)
from primepods.charts import Chart, fleet_chart, spend_chart
from primepods.emulator import EmulatedPod, Emulator, ManualClock
from primepods.events import Event, LeaseReleased, RequestEnded
from primepods.fleet import Condition, Fleet, follow


def events(event: Event) -> None:
    """What `on_event` is called with."""
    match event:
        case RequestEnded(route=route, status=status, seconds=seconds):
            assert_type(route, str | None)
            assert_type(status, int | None)
            assert_type(seconds, float)
        case LeaseReleased(spent=spent):
            assert_type(spent, float)
        case _:
            assert_type(event.operations, tuple[int, ...])


async def clients(session: aiohttp.ClientSession) -> None:
    """Every way to make a client, and what it gives."""
    AsyncClient()
    AsyncClient("key")
    AsyncClient(session=session)
    AsyncClient(session=aiohttp.ClientSession)
    AsyncClient(session=lambda: aiohttp.ClientSession(trust_env=True))
    AsyncClient(
        api_key="key",
        base_url="http://127.0.0.1",
        team_id="team",
        timeout=1,
        deadline=2.5,
        max_concurrency=4,
        retry=RetryPolicy(attempts=5, base_delay=0.5, max_delay=30.0, jitter=True),
        user_agent="mine/1",
        on_event=events,
    )
    async with AsyncClient() as client:
        assert_type(client, AsyncClient)
        assert_type(client.pods, AsyncPods)
        assert_type(client.with_options(timeout=1, deadline=2, retry=RetryPolicy()), AsyncClient)
        assert_type(await client.request("GET", "/api/v1/pods/", params={"limit": 1}, json=[1]), Any)
        await client.aclose()


async def pods(client: AsyncClient) -> None:
    """What each call returns."""
    assert_type(await client.pods.page(offset=0, limit=10), Page[Pod])
    assert_type(await client.pods.get("id"), Pod)
    assert_type(await client.pods.status("id"), PodStatus)
    assert_type(await client.pods.statuses(["id"]), PodStatuses)
    assert_type(await client.pods.delete("id", missing_ok=True), PodState)
    assert_type(await client.pods.delete_many({"id"}, missing_ok=True), Deletions)
    assert_type(
        await client.pods.history_page(offset=0, limit=10, sort_by="createdAt", sort_order="asc"),
        Page[HistoryRecord],
    )
    assert_type(await client.pods.logs("id", tail=5), str)
    assert_type(await client.pods.logs("id", tail=None), str)
    assert_type(await client.pods.create(spec()), Pod)
    assert_type(await client.pods.ensure(spec()), Pod)
    assert_type(client.pods.lease([spec(), spec()], login=True, ssh_options=["-v"]), AsyncLease)
    assert_type(await client.pods.sweep(expired=True), Sweep)
    assert_type(spec().named(), PodSpec)


async def references(
    client: AsyncClient, pod: Pod, status: PodStatus, page: Page[Pod], leased: AsyncLeasedPod
) -> None:
    """A pod, its status or a leased pod, where an id is meant."""
    refs: list[PodRef] = ["id", pod, status, leased]
    for ref in (pod, status, leased, refs[0]):
        assert_type(await client.pods.get(ref), Pod)
        assert_type(await client.pods.delete(ref), PodState)
        assert_type(await client.pods.wait_ready(ref), PodStatus)
    assert_type(await client.pods.statuses(page), PodStatuses)
    assert_type(await client.pods.delete_many([pod, "id"]), Deletions)
    assert_type(await client.pods.wait(refs), PodStatuses)
    assert_type(client.pods.watch(page[1:]), AsyncWatch)
    await client.pods.get(page)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def renting(client: AsyncClient) -> None:
    """Offers and keys."""
    assert_type(client.availability, AsyncAvailability)
    gpus = client.availability.gpus(
        gpu_type="H100_80GB",
        gpu_count=8,
        regions=("canada",),
        socket="SXM5",
        security="secure_cloud",
        data_center_id="d",
        cloud_id="c",
        page_size=50,
    )
    assert_type(gpus, AsyncPager[Offer])
    assert_type(client.availability.multi_node(gpu_count=16), AsyncPager[Offer])
    assert_type(client.availability.disks(regions=["canada"]), AsyncPager[DiskOffer])
    assert_type(await client.availability.cheapest(spot=True, max_price=2), Offer)
    assert_type(await client.availability.find(gpu_type="H100", exclude_providers={"p"}, wait=5), list[Offer])
    assert_type(await client.availability.summary(), list[GpuPrices])
    assert_type(await gpus.collect(), tuple[list[Offer], PrimePodsError | None])
    assert_type(await gpus.find(lambda offer: offer.gpu_count > 1), tuple[list[Offer], ProtocolError | None])
    assert_type(client.ssh_keys, AsyncSSHKeys)
    assert_type(client.ssh_keys.list(page_size=10), AsyncPager[SSHKey])
    assert_type(await client.ssh_keys.add("name", "ssh-ed25519 AAAA"), SSHKey)
    await client.ssh_keys.set_primary("id")
    await client.ssh_keys.delete("id")


async def account(client: AsyncClient, offer: DiskOffer) -> None:
    """Disks, rights, teams and the wallet."""
    assert_type(client.disks, AsyncDisks)
    spec = DiskSpec.from_offer(offer, size=100, name="data", team_id="t")
    assert_type(spec.named(), DiskSpec)
    assert_type(client.disks.list(page_size=10), AsyncPager[Disk])
    disk = await client.disks.create(DiskSpec(size=100, provider="p"))
    assert_type(disk, Disk)
    assert_type(await client.disks.get(disk), Disk)
    assert_type(await client.disks.rename("id", "name"), Disk)
    assert_type(await client.disks.wait_ready(disk, timeout=60, interval=1), Disk)
    assert_type(await client.disks.delete("id", missing_ok=True), PodState)
    assert_type(client.account, AsyncAccountInfo)
    user = await client.account.whoami()
    assert_type(user, Account)
    assert_type(user.allows("instances", write=True), bool | None)
    assert_type(client.account.teams(), AsyncPager[Team])
    assert_type(client.account.members("t", page_size=10), AsyncPager[TeamMember])
    assert_type(await client.account.wallet(limit=5), Wallet)


async def work(client: AsyncClient, pod: Pod) -> None:
    """Commands and files on a pod."""
    remote = client.pods.remote(pod, login_timeout=60, ssh_options=["-i", "key"], ssh_command="ssh")
    assert_type(remote, AsyncRemote)
    assert_type(remote.pod_id, str)
    result = await remote.run(["echo", "hi"], env={"A": "b"}, cwd="x", input=b"", timeout=5, on_line=print)
    assert_type(result, CommandResult)
    assert_type(result.exit_code, int)
    assert_type((await remote.run("true", check=False, capture=False)).stdout, str)
    nodes = await client.pods.remote(pod, node=1).run_all("true", env={}, cwd="x", timeout=5, on_line=print)
    assert_type(nodes, tuple[CommandResult, ...])
    async with remote.forward(8888, local_port=0, host="localhost") as forward:
        assert_type(forward, AsyncForward)
        assert_type((forward.local_port, forward.local_ports), tuple[int, tuple[int, ...]])
        assert_type((forward.url, forward.pod_id), tuple[str, str])
        await forward.wait()
    assert_type(await remote.upload(Path(), "x", on_progress=print), None)
    assert_type(await remote.download("x", "y"), None)
    job = await remote.start("true", name="train", env={"A": "b"}, cwd="x")
    assert_type(job, AsyncJob)
    assert_type([job.name, job.pod_id], list[str])
    async with job.output(offset=5, reconnect=60.0) as output:
        async for line in output:
            assert_type(line, OutputLine)
            assert_type(line.offset, int)
    await output.aclose()
    assert_type(
        await job.wait(timeout=5, check=False, capture=False, offset=5, reconnect=60.0), CommandResult
    )
    assert_type((await job.state()).ended_at, datetime | None)
    assert_type(await job.stop(grace=1.0), JobState)
    assert_type(remote.job("train"), AsyncJob)
    assert_type(await remote.jobs(), tuple[AsyncJob, ...])


async def leases(client: AsyncClient) -> None:
    """A leased pod, and what dead processes have left."""
    lease = client.pods.lease(spec(), on_change=print, max_hours=1.5, max_spend=10)
    assert_type(lease, AsyncLease)
    async with lease as pod:
        assert_type(pod, AsyncLeasedPod)
        assert_type(await pod.run("true"), CommandResult)
        assert_type(pod.status, PodStatus)
        assert_type(pod.ssh, SSHTarget)
        assert_type(pod.spent(), float)
        pod.keep()
    assert_type(await pod.final_cost(timeout=5), float)
    assert_type(await client.pods.sweep(prefix="ci-", older_than=3600, dry_run=True), Sweep)


async def listings(client: AsyncClient) -> None:
    """What is iterated, item by item and page by page."""
    assert_type(client.pods.list(page_size=50), AsyncPager[Pod])
    assert_type(client.pods.list(status=PodState.ACTIVE, name=["a", "b*"], gpu_type="H100"), AsyncPager[Pod])
    newest = client.pods.history(since=datetime.now(UTC), until=None, kind={"instance"})
    assert_type(newest, AsyncPager[HistoryRecord])
    assert_type([pod async for pod in client.pods.list()], list[Pod])
    async with aclosing(client.pods.list().pages()) as pages:
        assert_type(await anext(pages), Page[Pod])
    iterator: AsyncIterator[Page[Pod]] = client.pods.list().pages()
    assert_type(await anext(iterator), Page[Pod])
    async with aclosing(aiter(client.pods.list())) as pods:
        assert_type(await anext(pods), Pod)
    assert_type([page async for page in client.pods.list().pages()], list[Page[Pod]])
    history = client.pods.history(page_size=50, sort_by="terminatedAt", sort_order="desc")
    assert_type(history, AsyncPager[HistoryRecord])
    assert_type([record async for record in history], list[HistoryRecord])
    assert_type([page async for page in history.pages()], list[Page[HistoryRecord]])
    assert_type(await anext(aiter(history)), HistoryRecord)
    async with client.pods.list() as pager:
        assert_type(pager, AsyncPager[Pod])
        async for pod in pager:
            assert_type(pod, Pod)
    await pager.aclose()


async def waiting(client: AsyncClient) -> None:
    """Waits and watches, and what they call."""
    assert_type(await client.pods.wait(["id"]), PodStatuses)
    assert_type(await client.pods.wait(["id"], until=primepods.settled, on_change=print), PodStatuses)
    assert_type(await client.pods.wait(["id"], until=lambda status: status is None), PodStatuses)
    assert_type(await client.pods.wait({"id"}, interval=1, appear_grace=0, install_grace=0), PodStatuses)
    assert_type(await client.pods.wait_ready("id", timeout=60, interval=1, on_change=told), PodStatus)
    assert_type(await client.pods.wait_ready("id", on_change=heard, appear_grace=1), PodStatus)
    await client.pods.wait_gone("id", timeout=60, interval=1, on_change=told)
    watch = client.pods.watch(["id"], interval=1, timeout=5)
    assert_type(watch, AsyncWatch)
    async with watch as same:
        assert_type(same, AsyncWatch)
        assert_type([change async for change in watch], list[PodChange])
        async for change in watch:
            assert_type(change, PodChange)
    async with aclosing(aiter(watch)) as changes:
        assert_type(await anext(changes), PodChange)
    await watch.aclose()
    for until in (primepods.ready, primepods.failed, primepods.gone, primepods.settled):
        assert_type(until(None), bool)


async def told(change: PodChange) -> None:
    """Called with each change, and awaited."""
    assert_type(change.pod_id, str)
    assert_type(change.before, PodStatus | None)
    assert_type(change.after, PodStatus | None)


def heard(change: PodChange) -> int:
    """Called with each change."""
    return len(change.pod_id)


class Mine(AsyncClient):
    """Views are of the class they are made from."""


class MyClient(Client):
    """The same."""


def views(mine: Mine, my_client: MyClient) -> None:
    """`Self`, on both sides."""
    assert_type(mine.with_options(timeout=1), Mine)
    assert_type(my_client.with_options(timeout=1), MyClient)


def blocking_clients() -> None:
    """Every way to make a blocking client, and what it gives."""
    Client()
    Client("key")
    Client(
        api_key="key",
        base_url="http://127.0.0.1",
        team_id="team",
        timeout=1,
        deadline=2.5,
        max_concurrency=4,
        retry=RetryPolicy(),
        user_agent="mine/1",
    )
    with Client() as client:
        assert_type(client, Client)
        assert_type(client.pods, Pods)
        assert_type(client.with_options(timeout=1, deadline=2, retry=RetryPolicy()), Client)
        assert_type(client.request("GET", "/api/v1/pods/", params={"limit": 1}, json=[1]), Any)
        client.close()


def blocking_pods(client: Client) -> None:
    """What each call returns: the same as on the asynchronous side, without `await`."""
    assert_type(client.pods.page(offset=0, limit=10), Page[Pod])
    assert_type(client.pods.get("id"), Pod)
    assert_type(client.pods.status("id"), PodStatus)
    assert_type(client.pods.statuses(["id"]), PodStatuses)
    assert_type(client.pods.delete("id", missing_ok=True), PodState)
    assert_type(client.pods.delete_many({"id"}, missing_ok=True), Deletions)
    assert_type(
        client.pods.history_page(offset=0, limit=10, sort_by="createdAt", sort_order="asc"),
        Page[HistoryRecord],
    )
    assert_type(client.pods.logs("id", tail=5), str)
    assert_type(client.pods.logs("id", tail=None), str)
    assert_type(client.pods.create(spec()), Pod)
    assert_type(client.pods.ensure(spec()), Pod)
    assert_type(client.pods.lease([spec(), spec()], login=True, ssh_options=["-v"]), Lease)
    assert_type(client.pods.sweep(expired=True), Sweep)


def blocking_references(
    client: Client, pod: Pod, status: PodStatus, page: Page[Pod], leased: LeasedPod
) -> None:
    """A pod, its status or a leased pod, where an id is meant."""
    refs: list[PodRef] = ["id", pod, status, leased]
    for ref in (pod, status, leased, refs[0]):
        assert_type(client.pods.get(ref), Pod)
        assert_type(client.pods.delete(ref), PodState)
        assert_type(client.pods.wait_ready(ref), PodStatus)
    assert_type(client.pods.statuses(page), PodStatuses)
    assert_type(client.pods.delete_many(client.pods.list()), Deletions)
    assert_type(client.pods.wait(refs), PodStatuses)
    assert_type(client.pods.watch(page[1:]), Watch)
    client.pods.get(page)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def blocking_renting(client: Client) -> None:
    """Offers and keys."""
    assert_type(client.availability, Availability)
    gpus = client.availability.gpus(
        gpu_type="H100_80GB",
        gpu_count=8,
        regions=("canada",),
        socket="SXM5",
        security="secure_cloud",
        data_center_id="d",
        cloud_id="c",
        page_size=50,
    )
    assert_type(gpus, Pager[Offer])
    assert_type(client.availability.multi_node(gpu_count=16), Pager[Offer])
    assert_type(client.availability.disks(regions=["canada"]), Pager[DiskOffer])
    assert_type(client.availability.cheapest(spot=True, max_price=2), Offer)
    assert_type(client.availability.find(gpu_type="H100", exclude_providers={"p"}, wait=5), list[Offer])
    assert_type(client.availability.summary(), list[GpuPrices])
    assert_type(gpus.collect(), tuple[list[Offer], PrimePodsError | None])
    assert_type(gpus.find(lambda offer: offer.gpu_count > 1), tuple[list[Offer], ProtocolError | None])
    assert_type(client.ssh_keys, SSHKeys)
    assert_type(client.ssh_keys.list(page_size=10), Pager[SSHKey])
    assert_type(client.ssh_keys.add("name", "ssh-ed25519 AAAA"), SSHKey)
    client.ssh_keys.set_primary("id")
    client.ssh_keys.delete("id")


def blocking_account(client: Client) -> None:
    """Disks, rights, teams and the wallet."""
    assert_type(client.disks, Disks)
    assert_type(client.disks.list(page_size=10), Pager[Disk])
    disk = client.disks.create(DiskSpec(size=100, provider="p"))
    assert_type(disk, Disk)
    assert_type(client.disks.get(disk), Disk)
    assert_type(client.disks.rename("id", "name"), Disk)
    assert_type(client.disks.wait_ready(disk, timeout=60, interval=1), Disk)
    assert_type(client.disks.delete("id", missing_ok=True), PodState)
    assert_type(client.account, AccountInfo)
    assert_type(client.account.whoami(), Account)
    assert_type(client.account.teams(), Pager[Team])
    assert_type(client.account.members("t", page_size=10), Pager[TeamMember])
    assert_type(client.account.wallet(limit=5), Wallet)


def blocking_work(client: Client, pod: Pod) -> None:
    """Commands and files on a pod."""
    remote = client.pods.remote(pod, login_timeout=60, ssh_options=["-i", "key"], ssh_command="ssh")
    assert_type(remote, Remote)
    assert_type(remote.pod_id, str)
    result = remote.run(["echo", "hi"], env={"A": "b"}, cwd="x", input=b"", timeout=5, on_line=print)
    assert_type(result, CommandResult)
    assert_type(result.exit_code, int)
    assert_type(remote.run("true", check=False, capture=False).stdout, str)
    nodes = client.pods.remote(pod, node=1).run_all("true", env={}, cwd="x", timeout=5, on_line=print)
    assert_type(nodes, tuple[CommandResult, ...])
    with remote.forward(8888, local_port=0, host="localhost") as forward:
        assert_type(forward, Forward)
        assert_type((forward.local_port, forward.local_ports), tuple[int, tuple[int, ...]])
        assert_type((forward.url, forward.pod_id), tuple[str, str])
        forward.wait()
    assert_type(remote.upload(Path(), "x", on_progress=print), None)
    assert_type(remote.download("x", "y"), None)
    job = remote.start("true", name="train", env={"A": "b"}, cwd="x")
    assert_type(job, Job)
    assert_type([job.name, job.pod_id], list[str])
    with job.output(offset=5, reconnect=60.0) as output:
        for line in output:
            assert_type(line, OutputLine)
    output.close()
    assert_type(job.wait(timeout=5, check=False, capture=False, offset=5, reconnect=60.0), CommandResult)
    assert_type(job.state(), JobState)
    assert_type(job.stop(grace=1.0), JobState)
    assert_type(remote.job("train"), Job)
    assert_type(remote.jobs(), tuple[Job, ...])


def blocking_leases(client: Client) -> None:
    """A leased pod, and what dead processes have left."""
    lease = client.pods.lease(spec(), on_change=print, max_hours=1.5, max_spend=10)
    assert_type(lease, Lease)
    with lease as pod:
        assert_type(pod, LeasedPod)
        assert_type(pod.run("true"), CommandResult)
        assert_type(pod.status, PodStatus)
        assert_type(pod.ssh, SSHTarget)
        assert_type(pod.spent(), float)
        pod.keep()
    assert_type(pod.final_cost(timeout=5), float)
    sweep = client.pods.sweep(prefix="ci-", older_than=3600, dry_run=True)
    assert_type(sweep, Sweep)
    assert_type(client.pods.sweep(only=sweep), Sweep)
    assert_type(sweep.found, tuple[OrphanedPod, ...])
    assert_type(sweep.skipped, tuple[SkippedLease, ...])
    assert_type(sweep.price_hr, float)


def blocking_listings(client: Client) -> None:
    """What is iterated, item by item and page by page."""
    assert_type(client.pods.list(page_size=50), Pager[Pod])
    assert_type(client.pods.list(status=PodState.ACTIVE, name=["a"], gpu_type="H100"), Pager[Pod])
    assert_type(client.pods.history(until=datetime.now(UTC), kind="disk"), Pager[HistoryRecord])
    assert_type([pod for pod in client.pods.list()], list[Pod])  # noqa: C416 - as on the other side
    with closing(client.pods.list().pages()) as pages:
        assert_type(next(pages), Page[Pod])
    iterator: Iterator[Page[Pod]] = client.pods.list().pages()
    assert_type(next(iterator), Page[Pod])
    with closing(iter(client.pods.list())) as pods:
        assert_type(next(pods), Pod)
    assert_type(list(client.pods.list().pages()), list[Page[Pod]])
    history = client.pods.history(page_size=50, sort_by="terminatedAt", sort_order="desc")
    assert_type(history, Pager[HistoryRecord])
    assert_type(list(history), list[HistoryRecord])
    assert_type(list(history.pages()), list[Page[HistoryRecord]])
    assert_type(next(iter(history)), HistoryRecord)
    with client.pods.list() as pager:
        assert_type(pager, Pager[Pod])
        for pod in pager:
            assert_type(pod, Pod)
    pager.close()


def blocking_waiting(client: Client) -> None:
    """Waits and watches, and what they call."""
    assert_type(client.pods.wait(["id"]), PodStatuses)
    assert_type(client.pods.wait(["id"], until=primepods.settled, on_change=print), PodStatuses)
    assert_type(client.pods.wait(["id"], until=lambda status: status is None), PodStatuses)
    assert_type(client.pods.wait({"id"}, interval=1, appear_grace=0, install_grace=0), PodStatuses)
    assert_type(client.pods.wait(pod.id for pod in client.pods.list()), PodStatuses)
    assert_type(client.pods.wait_ready("id", timeout=60, interval=1, on_change=heard), PodStatus)
    client.pods.wait_gone("id", timeout=60, interval=1, on_change=heard)
    watch = client.pods.watch(["id"], interval=1, timeout=5)
    assert_type(watch, Watch)
    with watch as same:
        assert_type(same, Watch)
        assert_type(list(watch), list[PodChange])
        for change in watch:
            assert_type(change, PodChange)
    with closing(iter(watch)) as changes:
        assert_type(next(changes), PodChange)
    watch.close()


async def misuse(client: AsyncClient) -> None:
    """What the checkers must refuse: an `ignore` that is not needed is an error, too."""
    await client.pods.page(0, 10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.pods.history_page(sort_by="name")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.pods.get(17)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.pods.delete("id", True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # noqa: FBT003 - wrong on purpose


def blocking_misuse(client: Client, session: aiohttp.ClientSession) -> None:
    """The same on the blocking side, and what only that refuses."""
    client.pods.page(0, 10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.pods.history(sort_by="name")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.pods.get(17)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.pods.wait(["id"], until=print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.pods.wait(["id"], on_change=len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Client(session=session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def models(pod: Pod, status: PodStatus, record: HistoryRecord, page: Page[Pod]) -> None:
    """Fields and what is derived from them."""
    assert_type(page.total_count, int | None)
    assert_type(page.data, tuple[Pod, ...])
    assert_type(list(page), list[Pod])
    assert_type(page[0], Pod)
    assert_type(page[1:], tuple[Pod, ...])
    assert_type(pod.pod_id, str)
    assert_type(pod.has_gpu("H100"), bool)
    assert_type(pod.to_dict(), dict[str, Any])
    assert_type(len(page), int)
    assert_type(pod.id, str)
    assert_type(pod.name, str | None)
    assert_type(pod.status, PodState | None)
    assert_type(pod.price_hr, float)
    assert_type(pod.gpu_count, int)
    assert_type(pod.created_at, datetime | None)
    assert_type(pod.resources, Resources | None)
    assert_type(pod.extra, Mapping[str, Any])
    assert_type(status.pod_id, str)
    assert_type(status.cost_per_hr, float | None)
    assert_type(status.installation_status, InstallationState | None)
    for machine in (pod, status):
        assert_type(machine.is_ready, bool)
        assert_type(machine.has_failed, bool)
        assert_type(machine.failure, str | None)
        assert_type(machine.nodes, tuple[Node, ...])
        assert_type(machine.ssh, SSHTarget | None)
        assert_type(machine.endpoint(8000), Endpoint | None)
        assert_type(machine.jupyter_url, str | None)
    assert_type(record.total_billed_price, float)
    assert_type(record.terminated_at, datetime | None)
    assert_type(PodState("HIBERNATING").is_known, bool)
    assert_type(PodState("ACTIVE"), PodState)


def logins(target: SSHTarget, endpoint: Endpoint) -> None:
    """Where to go and how."""
    assert_type(target.user, str)
    assert_type(target.port, int)
    assert_type(target.argv(), list[str])
    assert_type(target.argv("-A", command=["ls", "-l"]), list[str])
    assert_type(target.argv(command="ls"), list[str])
    assert_type(target.config_block("name"), str)
    assert_type(target.to_dict(), dict[str, Any])
    assert_type(endpoint.url, str)


def results(statuses: PodStatuses, deletions: Deletions) -> None:
    """Mappings that also say what is not in them."""
    assert_type(dict(statuses), dict[str, PodStatus])
    assert_type(statuses.missing, tuple[str, ...])
    assert_type(statuses.cost_per_hr, float)
    assert_type(statuses.to_dict(), dict[str, Any])
    assert_type(statuses.errors, Mapping[str, PrimePodsError])
    assert_type(deletions["id"], PodState)
    assert_type(deletions.errors, Mapping[str, PrimePodsError])
    deletions.raise_for_errors()


def spec() -> PodSpec:
    """A spec with all of its fields."""
    return PodSpec(
        cloud_id="c",
        gpu_type="H100_80GB",
        socket="PCIe",
        gpu_count=8,
        provider="p",
        name="n",
        image="i",
        disk_size=1,
        vcpus=2,
        memory=3,
        max_price=2,
        custom_template_id="t",
        data_center_id="d",
        country="CA",
        security="secure_cloud",
        env_vars={"A": "1"},
        jupyter_password="jp",
        ssh_key_id="k",
        auto_restart=True,
        disks=["d"],
        team_id="team",
        prepaid_for_hr=24,
        team_member_ids=["a"],
        shared_with_team=True,
    )


def from_offer(offer: Offer) -> None:
    """What an offer says, and what is made of it."""
    assert_type(PodSpec.from_offer(offer, name="n", disk_size=1, max_price=None, disks={"d"}), PodSpec)
    assert_type(PodSpec.from_offers([offer], name="n"), list[PodSpec])
    assert_type(offer.price_hr, float | None)
    assert_type(offer.price_for(disk_size=1, vcpus=2, memory=None), float | None)
    assert_type(offer.is_available, bool)
    assert_type(offer.disk.allows(3), bool)
    assert_type(offer.disk.price_hr(3), float)
    assert_type(offer.images, tuple[str, ...])


def create_errors(error: CreateUncertainError) -> None:
    """What an order may end with."""
    assert_type(error.name, str)


def errors(error: APIError, invalid: primepods.ValidationError) -> None:
    """What an error tells."""
    assert_type(error.status_code, int)
    assert_type(error.method, str)
    assert_type(error.message, str)
    assert_type(error.headers, Mapping[str, str])
    assert_type(error.request_id, str | None)
    assert_type(error.retry_after, float | None)
    assert_type(error.attempts, int)
    assert_type(invalid.errors, tuple[FieldError, ...])


def limits(late: primepods.RequestTimeoutError, over: primepods.BudgetExceededError) -> None:
    """Which limit was reached is one of two words."""
    assert_type(late.limit, Literal["timeout", "deadline"])
    assert_type(over.budget, Literal["hours", "spend", "hourly"])


def wrapped(client: Client, until: primepods.Until, on_change: primepods.OnChange) -> PodStatuses:
    """A function of the user's that hands on what a wait takes."""
    return client.pods.wait(["id"], until=until, on_change=on_change)


def wait_errors(error: primepods.WaitError, failure: primepods.PodFailedError) -> None:
    """What a wait that did not end well tells."""
    assert_type(error.statuses, Mapping[str, PodStatus])
    assert_type(error.pending, tuple[str, ...])
    assert_type(failure.pod_id, str)
    assert_type(failure.last, PodStatus | None)
    assert_type(failure.reason, str)


async def fleets(client: AsyncClient, blocking: Client, pods: list[Pod]) -> None:
    """Many pods at a glance, live in a notebook and as pictures."""
    fleet = Fleet(pods)
    assert_type(await client.pods.wait(pods, on_change=fleet.add), PodStatuses)
    assert_type(await follow(client, fleet, wanted=lambda pod: pod.is_ready), None)
    assert_type(fleet.counts, dict[Condition, int])
    assert_type(fleet.spent, float)
    assert_type(fleet.pods(3)[0].status, PodStatus | None)
    assert_type(fleet_chart(fleet), Chart)
    assert_type(spend_chart(blocking.pods.history()), Chart)
    assert_type(await notebook.wait(client, pods, until=primepods.settled), PodStatuses)
    assert_type(notebook.wait(blocking, ["a"], timeout=60), PodStatuses)
    assert_type(await notebook.watch(client, duration=60), Fleet)
    assert_type(notebook.watch(blocking, ["a"]), Fleet)


async def emulator() -> None:
    """The emulator, in both ways to run it."""
    with Emulator(pods=2, seed=7, boot_seconds=30, clock=ManualClock()) as threaded:
        assert_type(threaded, Emulator)
    async with Emulator() as emu:
        assert_type(emu, Emulator)
        assert_type(emu.url, str)
        assert_type(emu.api_key, str)
        assert_type(emu.pods, Mapping[str, EmulatedPod])
        assert_type(emu.add_pod("name", gpu_count=8), str)
