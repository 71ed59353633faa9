"""Listings: every row that lasts exactly once, whatever comes and goes, at the price of a plain loop."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import primepods
from primepods import AsyncPager, Page, ProtocolError
from primepods.emulator import Emulator
from primepods.pagination import Source
from tests.support.client import make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Hang, Received, Reply, Server, reply

pytestmark = pytest.mark.anyio

Fetch = Callable[[int, int], Awaitable[Page[str]]]


def pager(
    fetch: Fetch, page_size: int = 100, *, window: int = 16, max_pages: int = 100_000
) -> AsyncPager[str]:
    """A pager of ids over a function that stands for the server."""
    source = Source(fetch=fetch, key=str, path="/list", window=window, max_pages=max_pages)
    return AsyncPager(source, page_size)


@attrs.frozen
class Change:
    """Some rows that come or go, at a place that is a share of the list."""

    at: float
    rows: int
    """Negative: deleted."""


@attrs.define
class Api:
    """A list that changes while it is read, and the server in front of it.

    Attributes:
        rows: the list as it is now.
        changes: what happens to it, one entry before a page is taken; None for nothing.
        cap: rows in a page at most.
        counts: whether answers have a total_count.
        delays: turns of the loop that pass before and after a page is taken, in circles.
    """

    rows: list[str]
    changes: list[Change | None] = attrs.field(factory=list)
    cap: int = 1_000
    counts: bool = True
    delays: Sequence[int] = (0,)
    asked: list[tuple[int, int]] = attrs.field(factory=list)
    doomed: set[str] = attrs.field(factory=set)
    born: int = 0
    in_flight: int = 0
    most_in_flight: int = 0

    @classmethod
    def of(cls, count: int, **more: object) -> Api:
        """A list of so many rows."""
        return cls([f"row-{n:05d}" for n in range(count)], **more)  # type: ignore[arg-type]

    async def fetch(self, offset: int, limit: int) -> Page[str]:
        """Answer with one page, after the next change."""
        self.asked.append((offset, limit))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        delay = self.delays[len(self.asked) % len(self.delays)]
        try:
            for _ in range(delay):
                await asyncio.sleep(0)
            self.change()
            total = len(self.rows) if self.counts else None
            data = tuple(self.rows[offset : offset + min(limit, self.cap)])
            for _ in range(delay):
                await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        return Page(total_count=total, offset=offset, limit=limit, data=data)

    def change(self) -> None:
        """Let the next change happen."""
        change = self.changes.pop(0) if self.changes else None
        if change is None:
            return
        place = min(int(change.at * len(self.rows)), len(self.rows))
        if change.rows < 0:
            self.doomed.update(self.rows[place : place - change.rows])
            del self.rows[place : place - change.rows]
        else:
            new = [f"new-{self.born + n:05d}" for n in range(change.rows)]
            self.born += change.rows
            self.rows[place:place] = new


CHANGES = st.lists(
    st.none()
    | st.builds(
        Change,
        st.sampled_from([0.0, 1.0]) | st.floats(0, 1),
        st.integers(-3, 3) | st.sampled_from([-250, -101, -100, -99, -50, 20, 99, 100, 250]),
    ),
    max_size=40,
)


async def read(source: AsyncPager[str]) -> list[str]:
    """All that a pager yields."""
    return [row async for row in source]


async def collect(source: AsyncPager[str], found: list[str]) -> None:
    """As `read`, but what came before an error counts."""
    async for row in source:
        found.append(row)  # noqa: PERF401 - see above


@settings(max_examples=400, deadline=None)
@given(
    count=st.integers(0, 20) | st.integers(0, 400),
    changes=CHANGES,
    page_size=st.integers(1, 10) | st.integers(1, 250),
    window=st.sampled_from([1, 2, 16]),
    cap=st.just(1_000) | st.integers(2, 120),
    counts=st.booleans(),
    delays=st.lists(st.integers(0, 5), min_size=1, max_size=7),
)
async def test_what_lasts_is_yielded_exactly_once(
    *,
    count: int,
    changes: list[Change | None],
    page_size: int,
    window: int,
    cap: int,
    counts: bool,
    delays: list[int],
) -> None:
    """Every row that is there from the first request to the last comes once, whatever happens meanwhile."""
    api = Api.of(count, changes=changes, cap=cap, counts=counts, delays=delays)
    at_first = set(api.rows)
    found = await read(pager(api.fetch, page_size, window=window))
    assert len(found) == len(set(found))
    assert at_first - api.doomed <= set(found)
    assert api.in_flight == 0


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(0, 300),
    changes=CHANGES,
    page_size=st.integers(1, 60),
    window=st.sampled_from([1, 16]),
    lost=st.lists(st.booleans(), max_size=60),
    lost_count=st.sampled_from([None, 0, -1]),
)
async def test_a_page_that_lost_its_rows_is_asked_for_again(
    *,
    count: int,
    changes: list[Change | None],
    page_size: int,
    window: int,
    lost: list[bool],
    lost_count: int | None,
) -> None:
    """A replica that now and then answers with an empty page, whatever it counts, makes nobody lose a row."""
    api = Api.of(count, changes=changes)
    at_first = set(api.rows)
    just_lost: set[int] = set()

    async def fetch(offset: int, limit: int) -> Page[str]:
        page = await api.fetch(offset, limit)
        if offset in just_lost or not (lost and lost.pop()):
            just_lost.discard(offset)
            return page
        just_lost.add(offset)
        total = page.total_count if lost_count == -1 else lost_count
        return attrs.evolve(page, data=(), total_count=total)

    found = await read(pager(fetch, page_size, window=window))
    assert len(found) == len(set(found))
    assert at_first - api.doomed <= set(found)


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(0, 300),
    page_size=st.integers(1, 60),
    window=st.sampled_from([1, 16]),
    kept=st.lists(st.none() | st.integers(1, 5), max_size=60),
)
async def test_a_page_that_lost_some_rows_hides_none(
    *, count: int, page_size: int, window: int, kept: list[int | None]
) -> None:
    """A page that is cut short now and then, while the count still knows better, is no end of the list."""
    api = Api.of(count)
    cut: dict[int, int] = {}

    async def fetch(offset: int, limit: int) -> Page[str]:
        page = await api.fetch(offset, limit)
        keep = kept.pop() if kept else None
        if keep is None or cut.get(offset, 0) == 2:
            cut[offset] = 0
            return page
        cut[offset] = cut.get(offset, 0) + 1
        return attrs.evolve(page, data=page.data[:keep])

    assert await read(pager(fetch, page_size, window=window)) == api.rows


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(0, 120),
    page_size=st.integers(1, 50),
    window=st.sampled_from([1, 16]),
    totals=st.lists(st.none() | st.integers(-3, 150) | st.just(10**12), min_size=1, max_size=6),
)
async def test_a_count_that_lies_makes_nobody_lose_a_row(
    *, count: int, page_size: int, window: int, totals: list[int | None]
) -> None:
    """Whatever `total_count` says, the list is read to its end, in a bounded number of requests."""
    api = Api.of(count)

    async def fetch(offset: int, limit: int) -> Page[str]:
        page = await api.fetch(offset, limit)
        return attrs.evolve(page, total_count=totals[len(api.asked) % len(totals)])

    found = await read(pager(fetch, page_size, window=window))
    assert found == api.rows
    naive = 1 + count // page_size
    assert len(api.asked) <= 3 * naive + 10 + 2 * window


@pytest.mark.parametrize("window", [1, 16])
@pytest.mark.parametrize("stated", ["rows in the page", "one page", "nothing", "too much"])
async def test_counts_that_have_been_seen_to_lie(stated: str, window: int) -> None:
    """A count of the page's rows, of one page, of nothing, or of rows that are no more: all rows come."""
    api = Api.of(250)

    async def fetch(offset: int, limit: int) -> Page[str]:
        page = await api.fetch(offset, limit)
        total = {"rows in the page": len(page), "one page": 100, "nothing": 0, "too much": 1_000}[stated]
        return attrs.evolve(page, total_count=total)

    assert await read(pager(fetch, 100, window=window)) == api.rows


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("window", [1, 16])
async def test_the_guarantee_is_cheap(*, counts: bool, window: int) -> None:
    """While nothing changes, no list takes more than 2 % more requests than a plain loop's, rounded up."""
    for count in [*range(420), *range(420, 3_000, 7), 9_900, 9_901, 9_999, 10_000, 10_001, 23_456]:
        api = Api.of(count, counts=counts)
        assert await read(pager(api.fetch, window=window)) == api.rows
        plain = max(1, math.ceil(count / 100)) if counts else 1 + count // 100
        assert len(api.asked) <= math.ceil(1.02 * plain) + (not counts), count
        assert {limit for _, limit in api.asked} == {100}


@pytest.mark.parametrize("page_size", [1, 20, 100, 1_000])
async def test_a_list_that_fits_a_page_is_one_request(page_size: int) -> None:
    """Most accounts have few pods: one request, as a plain loop's. Only behind a full page one looks."""
    for count in {0, 1, page_size // 2, page_size - 1, page_size}:
        api = Api.of(count)
        assert await read(pager(api.fetch, page_size)) == api.rows
        # Nothing at all is believed when it is said twice.
        assert len(api.asked) == (1 if count > 0 and (count < page_size or page_size < 100) else 2)


async def test_the_way_back_is_as_long_as_the_fall() -> None:
    """When rows before the place are deleted, the count tells how many: one step leads back to the ground."""
    api = Api.of(10_000, changes=[None] * 50 + [Change(0.0, -990)])
    found = await read(pager(api.fetch, window=1))
    assert len(found) == 10_000
    assert len(api.asked) <= 102 + 2


async def test_ten_thousand_rows_take_102_requests() -> None:
    """The figure that is promised: a plain loop takes 100."""
    api = Api.of(10_000)
    assert len(await read(pager(api.fetch))) == 10_000
    assert len(api.asked) <= 102


@pytest.mark.parametrize(
    ("page_size", "limit"), [(1, 2), (2, 3), (99, 100), (100, 100), (101, 101), (1000, 1000)]
)
async def test_the_overlap_rides_along_on_small_pages(page_size: int, limit: int) -> None:
    """Below 100 rows a page has one more than asked for, so that the overlap costs no request of its own."""
    api = Api.of(3 * page_size)
    assert await read(pager(api.fetch, page_size)) == api.rows
    assert {asked for _, asked in api.asked} == {limit}
    assert len(api.asked) <= 4


async def test_nothing_is_asked_for_before_it_is_wanted() -> None:
    """No request before the first row is wanted, no second one before the second page is; then the window."""
    api = Api.of(10_000, delays=(1,))
    rows = aiter(pager(api.fetch, window=16))
    await settle()
    assert api.asked == []
    for _ in range(100):
        await anext(rows)
        await settle()
        assert len(api.asked) == 1
    await anext(rows)
    await settle()
    assert len(api.asked) == 1 + 16
    assert api.most_in_flight == 16
    assert [offset for offset, _ in api.asked] == list(range(0, 17 * 99, 99))


async def test_the_window_stays_full_and_ends_with_the_list() -> None:
    """While rows are consumed at most the window's pages are on their way, and none behind the end."""
    api = Api.of(5_000, delays=(1, 9, 4))
    assert await read(pager(api.fetch, window=4)) == api.rows
    assert api.most_in_flight == 4
    assert max(offset for offset, _ in api.asked) < 5_000
    assert len(api.asked) == len(set(api.asked))


async def test_without_a_count_nothing_is_asked_for_on_suspicion() -> None:
    """A list whose length nobody states is read page by page, and none behind its end."""
    api = Api.of(1_000, counts=False, delays=(1,))
    assert await read(pager(api.fetch, window=16)) == api.rows
    assert api.most_in_flight == 1
    assert max(offset for offset, _ in api.asked) < 1_000


async def test_each_iteration_is_a_listing_of_its_own() -> None:
    """The same pager can be iterated again, also at once, and sees what is there then."""
    api = Api.of(30)
    source = pager(api.fetch, 10)
    first, second = await asyncio.gather(read(source), read(source))
    assert first == second == api.rows
    api.rows = ["other"]
    assert await read(source) == ["other"]
    assert repr(source) == "<AsyncPager of /list, page_size=10>"


async def test_pages_are_the_same_rows() -> None:
    """`pages()` yields the same rows in the same order, in pages that overlap no more."""
    api = Api.of(1_234)
    pages = [page async for page in pager(api.fetch, 100).pages()]
    assert [row for page in pages for row in page] == api.rows
    assert {page.total_count for page in pages} == {1_234}
    assert all(len(page) <= 101 for page in pages)
    assert len(pages) == 13


def blocked(api: Api, after: int) -> Fetch:
    """The server of a list that stops answering after so many requests."""

    async def fetch(offset: int, limit: int) -> Page[str]:
        if len(api.asked) < after:
            return await api.fetch(offset, limit)
        api.asked.append((offset, limit))
        api.in_flight += 1
        try:
            await asyncio.get_running_loop().create_future()
            raise AssertionError
        finally:
            # A request that takes its time to let go of its connection.
            await asyncio.sleep(0)
            api.in_flight -= 1

    return fetch


async def consume(rows: AsyncIterator[object], count: int) -> None:
    """Take so many rows."""
    for _ in range(count):
        await anext(rows)


@asynccontextmanager
async def nothing_left(after: int = 5) -> AsyncIterator[tuple[Api, AsyncPager[str]]]:
    """A listing that gets stuck while its window is full; whatever is done with it, nothing of it stays."""
    api = Api.of(10_000)
    before = asyncio.all_tasks()
    yield api, pager(blocked(api, after), 100)
    gc.collect()
    await settle()
    assert api.in_flight == 0
    assert asyncio.all_tasks() == before


async def test_a_loop_that_is_left_ends_its_requests() -> None:
    """`break` cancels the requests ahead, in the next turns of the loop."""
    async with nothing_left() as (api, source):
        async for row in source:
            if row == "row-00150":
                assert api.in_flight == 12
                break


async def test_async_with_makes_it_prompt() -> None:
    """At the end of the block all requests of a loop that was left, or that failed, have ended."""

    async def fail(source: AsyncPager[str]) -> None:
        async with source:
            async for row in source:
                assert row != "row-00150"

    async with nothing_left() as (api, source):
        async with source:
            async for row in source:
                if row == "row-00150":
                    break
        assert api.in_flight == 0
    async with nothing_left() as (api, source):
        with pytest.raises(AssertionError):
            await fail(source)
        assert api.in_flight == 0


async def test_aclose_ends_all_iterations() -> None:
    """Every iterator of the pager is at its end then, with its requests."""
    async with nothing_left(after=25) as (api, source):
        rows, pages = aiter(source), source.pages()
        await consume(rows, 150)
        await consume(pages, 2)
        assert api.in_flight > 0
        await source.aclose()
        assert api.in_flight == 0
        assert [row async for row in rows] == []
        assert [page async for page in pages] == []


async def test_a_cancelled_consumer_leaves_nothing() -> None:
    """Cancelled while it waits for a page, a consumer ends with that page's request and those ahead."""
    async with nothing_left() as (api, source):
        task = asyncio.create_task(read(source))
        await settle()
        assert api.in_flight == 16
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert api.in_flight == 0


async def test_an_iterator_that_is_forgotten_leaves_nothing() -> None:
    """Garbage collection ends what nobody closed."""
    async with nothing_left() as (api, source):
        rows = aiter(source)
        await consume(rows, 150)
        assert api.in_flight == 12
        del rows


async def test_a_pager_that_is_dropped_unused_asks_for_nothing() -> None:
    """Making a pager, or an iterator of it, costs nothing and warns of nothing."""
    api = Api.of(10)
    pager(api.fetch)
    aiter(pager(api.fetch))
    async with pager(api.fetch):
        pass
    gc.collect()
    await settle()
    assert api.asked == []


async def test_cancelled_at_any_turn_a_listing_ends_cleanly() -> None:
    """Whenever the consumer is cancelled, no request and no task survives it."""
    before = asyncio.all_tasks()
    for turns in range(60):
        api = Api.of(2_000, delays=(1, 3, 2))
        task = asyncio.create_task(read(pager(api.fetch, 10, window=8)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert api.in_flight == 0
    await settle()
    assert asyncio.all_tasks() == before


async def test_a_failed_page_ends_the_listing_with_its_error() -> None:
    """The error of a page comes when that page is due, behind all rows before it; nothing else survives."""
    api = Api.of(3_000)
    before = asyncio.all_tasks()

    async def fetch(offset: int, limit: int) -> Page[str]:
        if offset >= 5 * 99:
            msg = f"no page at {offset}"
            raise ZeroDivisionError(msg)
        return await api.fetch(offset, limit)

    found: list[str] = []
    with pytest.raises(ZeroDivisionError, match="no page at 495"):
        await collect(pager(fetch), found)
    assert found == api.rows[: 5 * 99 + 1]
    await settle()
    gc.collect()
    assert asyncio.all_tasks() == before


async def test_failures_ahead_of_a_consumer_who_stops_are_nobodys() -> None:
    """A prefetched page that fails and is never wanted is not reported, not even as never retrieved."""
    api = Api.of(3_000)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fetch(offset: int, limit: int) -> Page[str]:
        if offset > 99:
            raise ZeroDivisionError
        return await api.fetch(offset, limit)

    async for row in pager(fetch):
        if row == api.rows[150]:
            break
    await settle()
    gc.collect()
    asyncio.get_running_loop().set_exception_handler(None)
    assert complaints == []


Ill = Callable[[Api], Fetch]


def ignores_offset(api: Api) -> Fetch:
    """Every page is the first."""
    return lambda _, limit: api.fetch(0, limit)


def never_ends(api: Api) -> Fetch:
    """There is always another page of rows that nobody has seen."""

    async def fetch(offset: int, limit: int) -> Page[str]:
        api.asked.append((offset, limit))
        rows = tuple(f"row-{n}" for n in range(offset, offset + limit))
        return Page(total_count=offset + 10 * limit, offset=offset, limit=limit, data=rows)

    return fetch


def one_row(api: Api) -> Fetch:
    """Pages hold one row, whatever their limit."""
    api.cap = 1
    return api.fetch


def counts_pages(api: Api) -> Fetch:
    """The offset is taken for a number of pages."""
    return lambda offset, limit: api.fetch(offset * limit, limit)


def floods(api: Api) -> Fetch:
    """A page's worth of rows is born in front of every page."""

    async def fetch(offset: int, limit: int) -> Page[str]:
        api.changes = [Change(0.0, limit)]
        return await api.fetch(offset, limit)

    return fetch


@pytest.mark.parametrize("window", [1, 16])
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(
    ("ill", "complaint"),
    [
        (ignores_offset, "ignores `offset`"),
        (never_ends, "no end after 500 pages"),
        (one_row, "more than one row"),
        (counts_pages, "nothing new"),
        (floods, "nothing new|no end"),
    ],
)
async def test_a_server_that_cannot_be_paged_is_told_so(
    *, ill: Ill, complaint: str, counts: bool, window: int
) -> None:
    """No endless loop and no silent half of a list: an error that says what the server did, soon."""
    api = Api.of(1_000, counts=counts)
    found: list[str] = []
    with pytest.raises(ProtocolError, match=complaint) as caught:
        await collect(pager(ill(api), 50, window=window, max_pages=500), found)
    assert len(found) == len(set(found))
    assert f"({len(found):,} items were read)" in str(caught.value)
    assert caught.value.url_path == "/list"
    assert len(api.asked) <= 600
    assert api.in_flight == 0


@pytest.mark.parametrize("window", [1, 16])
async def test_what_looks_ill_and_is_not(window: int) -> None:
    """A list that moved by exactly a page is no server that ignores offsets, a single row no cap of one."""
    api = Api.of(1_000, changes=[None, Change(0.0, 99)])
    found = await read(pager(api.fetch, window=window))
    assert set(found) >= {f"row-{n:05d}" for n in range(1_000)}
    for counts in (True, False):
        api = Api.of(1, counts=counts)
        assert await read(pager(api.fetch, window=window)) == api.rows
    # Where only one row was ever there, others may come and go while it is found out that there is no second.
    for changes in ([0, 1], [0, 1, -1], [0, 1, -1, 1], [0, 1, 1, -1, -1]):
        api = Api.of(1, counts=False, changes=[Change(1.0 if n > 0 else 0.5, n) for n in changes])
        assert "row-00000" in await read(pager(api.fetch, window=window))


async def test_more_rows_than_asked_for_are_taken() -> None:
    """A server that knows no limits gives everything at once: all of it is read, once."""
    api = Api.of(5_000)
    found = await read(pager(lambda offset, _: api.fetch(offset, 10_000), 10))
    assert found == api.rows


async def test_rows_that_come_twice_in_a_page_are_yielded_once() -> None:
    """Duplicates within a page are the server's mistake, not the caller's problem."""

    async def fetch(offset: int, limit: int) -> Page[str]:
        rows = ["a", "a", "b", "a", "c"][offset : offset + limit]
        return Page(total_count=5, offset=offset, limit=limit, data=tuple(rows))

    assert await read(pager(fetch, 2)) == ["a", "b", "c"]
    assert await read(pager(fetch, 100)) == ["a", "b", "c"]


async def test_a_list_that_shrinks_to_nothing_ends() -> None:
    """Everything but the first page is deleted while it is read: the listing ends, in a few requests."""
    api = Api.of(20_000, changes=[None] * 20 + [Change(0.0, -20_000)])
    found = await read(pager(api.fetch, window=1))
    assert found[:100] == [f"row-{n:05d}" for n in range(100)]
    assert len(api.asked) < 60


async def test_churn_costs_little() -> None:
    """The trial that plain loops fail: 8 % of 300 rows are deleted between pages; 40 listings, all right."""
    requests = 0
    for seed in range(40):
        random = Random(seed)
        changes = [Change(random.random(), -random.randint(1, 8)) for _ in range(4)]
        api = Api.of(300, changes=[None, *changes])
        at_first = set(api.rows)
        found = await read(pager(api.fetch, 20, window=4))
        assert len(found) == len(set(found))
        assert at_first - api.doomed <= set(found)
        requests += len(api.asked)
    assert requests < 40 * 15 * 1.2


# The same, end to end.

PODS = [
    {"id": f"p{n}", "gpuName": "H100", "gpuCount": 1, "priceHr": 1.0, "providerType": "x"} for n in range(500)
]


@pytest.mark.parametrize("page_size", [1, 7, 99, 100, 101, 1_000])
async def test_all_pods_come_over_the_wire(page_size: int) -> None:
    """A fleet is listed whole through real sockets, in the API's order."""
    count = 60 if page_size == 1 else 500
    async with Emulator(pods=count, seed=3) as emu, make_client(emu.url, api_key=emu.api_key) as client:
        found = [pod.id async for pod in client.pods.list(page_size=page_size)]
        assert found == list(emu.pods)


async def test_1234_pods_take_13_requests_and_no_redirect() -> None:
    """What the issue asks for, read off the emulator's own log."""
    async with Emulator(pods=1_234, seed=4) as emu, make_client(emu.url, api_key=emu.api_key) as client:
        pods = [pod async for pod in client.pods.list()]
        assert len(pods) == len({pod.id for pod in pods}) == 1_234
        assert [entry.status for entry in emu.requests] == [200] * 13
        assert {entry.path for entry in emu.requests} == {"/api/v1/pods/"}
        assert max(entry.concurrency for entry in emu.requests) > 1
        emu.requests.clear()
        statuses = await client.pods.statuses(pod.id for pod in pods)
        assert list(statuses) == [pod.id for pod in pods]
        assert [entry.status for entry in emu.requests] == [200] * 13
        assert max(entry.concurrency for entry in emu.requests) > 1


@pytest.mark.parametrize("page_size", [3, 20, 100])
async def test_pods_that_last_are_found_while_others_come_and_go(page_size: int) -> None:
    """Pods are born and vanish between the requests of a listing: those that stay come exactly once."""
    random = Random(page_size)
    async with Emulator(pods=300, seed=5) as emu, make_client(emu.url, api_key=emu.api_key) as client:
        at_first = set(emu.pods)
        found: list[str] = []
        async for pod in client.pods.list(page_size=page_size):
            found.append(pod.id)
            if random.random() < 0.2:
                emu.delete_pod(random.choice(list(emu.pods)))
            if random.random() < 0.1:
                emu.add_pod()
        lasting = at_first & set(emu.pods)
    assert len(found) == len(set(found))
    assert lasting <= set(found)
    assert len(lasting) < 300


async def test_history_is_read_as_pods_are() -> None:
    """The history has its own order; records that come in front while it is read disturb nobody."""
    async with (
        Emulator(pods=100, seed=6, history=250, delete_seconds=0) as emu,
        make_client(emu.url, api_key=emu.api_key) as client,
    ):
        at_first = {record.id async for record in client.pods.history()}
        assert len(at_first) == 250
        found: list[str] = []
        doomed = list(emu.pods)
        async for record in client.pods.history(page_size=20, sort_by="createdAt", sort_order="asc"):
            found.append(record.id)
            if doomed and len(found) % 3 == 0:
                emu.delete_pod(doomed.pop())
        assert len(found) == len(set(found))
        assert at_first <= set(found)


async def test_a_listing_survives_failures() -> None:
    """Each page has the retries of any call: a listing through a server that keeps failing is complete."""
    clock = ManualClock(auto=True)

    def answer(request: Received) -> Answer:
        if request.number % 3:
            return Reply(503)
        offset, limit = (int(request.values(name)[0]) for name in ("offset", "limit"))
        return reply({"total_count": 300, "offset": offset, "limit": limit, "data": PODS[offset:300][:limit]})

    retry = primepods.RetryPolicy(attempts=12)
    async with Server(answer) as server, make_client(server.url, clock=clock, retry=retry) as client:
        assert [pod.id async for pod in client.pods.list(page_size=20)] == [f"p{n}" for n in range(300)]


async def test_leaving_a_listing_frees_its_connections() -> None:
    """A consumer who stops while pages are on their way gives their slots back to other calls."""

    def answer(request: Received) -> Answer:
        if request.path == "/ok":
            return reply({"ok": True})
        offset = int(request.values("offset")[0])
        if offset > 150:
            return Hang()
        return reply(
            {"total_count": 5_000, "offset": offset, "limit": 100, "data": PODS[offset : offset + 100]}
        )

    async with Server(answer) as server, make_client(server.url, max_concurrency=4) as client:
        async with client.pods.list() as pods:
            task = asyncio.create_task(consume(aiter(pods), 1_000))
            await settle()
            assert server.in_flight == 4
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await client.request("GET", "/ok") == {"ok": True}
        await settle()
        assert server.in_flight == 0


@pytest.mark.parametrize("size", [0, -1, 1_001, True, 1.5, "10", None])
def test_page_sizes_are_checked_at_once(size: object) -> None:
    """What is no page size is refused where it is given, not when the listing is iterated."""
    client = make_client("http://127.0.0.1:1")
    for method in (client.pods.list, client.pods.history):
        with pytest.raises((TypeError, ValueError), match="page_size"):
            method(page_size=size)  # type: ignore[arg-type]
