"""The iterators: lazy, ahead of their reader, patient with time-outs, and without leftovers."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import pytest

import primepods
from primepods import AsyncPager, ClientClosedError, ProtocolError, ServerError
from primepods.pagination import FetchedPage, Source
from primepods.pagination._reader import KnownRows
from tests.pagination.lists import Api, Change, Fetch, fetched, names, pager, read, read_until_error
from tests.support.clock import settle


async def consume(rows: AsyncIterator[object], count: int) -> None:
    """Take so many rows."""
    for _ in range(count):
        await anext(rows)


def blocked(api: Api, after: int) -> Fetch:
    """The server of a list that stops answering after so many requests."""

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
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


@asynccontextmanager
async def nothing_left(after: int = 5) -> AsyncIterator[tuple[Api, AsyncPager[str]]]:
    """A list that gets stuck while its window is full; whatever is done with it, nothing of it stays."""
    api = Api.of(10_000)
    before = asyncio.all_tasks()
    # Not even what only the garbage collector finds.
    gc.disable()
    try:
        yield api, pager(blocked(api, after), 100)
        await settle()
    finally:
        gc.enable()
    assert api.in_flight == 0
    assert asyncio.all_tasks() == before


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


async def test_the_page_after_a_full_last_one_is_requested_ahead() -> None:
    """If the last page is full, the next one is requested with it, not after it."""
    api = Api.of(1 + 3 * 99, delays=(1,))
    rows = aiter(pager(api.fetch, window=4))
    await consume(rows, 101)
    assert [offset for offset, _ in api.asked] == [0, 99, 198, 297]
    assert [row async for row in rows] == api.rows[101:]
    assert len(api.asked) == 4


async def test_requests_ahead_that_turn_out_useless_are_ended() -> None:
    """Where the list has shrunk, nobody waits for the pages that were asked for behind its end."""
    api = Api.of(1_000, changes=[None, Change(0.15, -850)])

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        return await (blocked(api, 0) if offset > 99 else api.fetch)(offset, limit)

    assert await read(pager(fetch, window=4)) == names(150)
    assert api.in_flight == 0


async def test_after_a_step_back_pages_are_asked_for_ahead_again() -> None:
    """A deletion costs the requests that were under way, not those that follow."""
    api = Api.of(5_000, changes=[None, None, Change(0.0, -3)], delays=(1,))
    rows = aiter(pager(api.fetch, window=4))
    await consume(rows, 1_000)
    api.most_in_flight = 0
    await consume(rows, 1_000)
    assert api.most_in_flight == 4


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


@pytest.mark.parametrize("window", [1, 16])
@pytest.mark.parametrize("by_page", [False, True])
async def test_a_time_out_changes_nothing(*, by_page: bool, window: int) -> None:
    """A heartbeat that asks for the next row with a time-out, again and again, gets each row once."""
    api = Api.of(300, delays=(2, 7, 0, 40))
    source = pager(api.fetch, 10, window=window)
    iterator: AsyncIterator[object] = source.pages() if by_page else aiter(source)
    found: list[object] = []
    timeouts = 0
    while True:
        task = asyncio.ensure_future(anext(iterator))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        try:
            item = await task
        except asyncio.CancelledError:
            timeouts += 1
        except StopAsyncIteration:
            break
        else:
            found.extend(item if isinstance(item, primepods.Page) else [item])
    assert found == api.rows
    assert timeouts > 5
    # What was on its way goes on: no page is asked for twice because nobody waited for it.
    assert len(api.asked) == len(set(api.asked)) == 30
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


async def test_tasks_that_share_an_iterator_get_each_row_once() -> None:
    """Several tasks may take from one iterator: every row goes to one of them."""
    api = Api.of(500, delays=(3, 1))
    rows = aiter(pager(api.fetch, 10, window=4))

    async def take() -> list[str]:
        return [row async for row in rows]

    shares = await asyncio.gather(*(take() for _ in range(5)))
    assert sorted(row for share in shares for row in share) == api.rows


@pytest.mark.parametrize("by_page", [False, True])
async def test_an_iterator_that_failed_fails_again(*, by_page: bool) -> None:
    """The error of a page comes when that page is due, behind all rows before it; then each time."""
    api = Api.of(3_000)
    before = asyncio.all_tasks()

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        if offset >= 5 * 99:
            msg = f"no page at {offset}"
            raise ZeroDivisionError(msg)
        return await api.fetch(offset, limit)

    source = pager(fetch)
    iterator: AsyncIterator[object] = source.pages() if by_page else aiter(source)
    await consume(iterator, 5 if by_page else 5 * 99 + 1)
    lengths = set[int]()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="no page at 495") as caught:
            await anext(iterator)
        lengths.add(len(caught.traceback))
    assert len(lengths) == 1, "the traceback must not grow"
    assert asyncio.all_tasks() == before


async def test_the_error_at_the_end_comes_again() -> None:
    """A list that turned out to be incomplete does not end normally afterwards."""
    api = Api.of(10, unreadable=frozenset(["row-00003"]))
    rows = aiter(pager(api.fetch))
    await consume(rows, 9)
    for _ in range(3):
        with pytest.raises(ProtocolError, match="row-00003"):
            await anext(rows)


async def test_a_loop_that_is_left_ends_its_requests() -> None:
    """`break` cancels the requests ahead, in the next turns of the loop."""
    async with nothing_left() as (api, source):
        async for row in source:
            if row == "row-00150":
                assert api.in_flight == 12
                break


async def test_an_iterator_that_is_forgotten_leaves_nothing() -> None:
    """An iterator that nobody holds any more ends its requests, also one whose next row was waited for."""
    async with nothing_left() as (api, source):
        rows, pages = aiter(source), source.pages()
        await consume(rows, 150)
        with suppress(TimeoutError):
            await asyncio.wait_for(consume(pages, 20), 0.001)
        assert api.in_flight > 12
        del rows, pages


async def test_an_iterator_may_be_collected_in_another_thread() -> None:
    """The garbage collector runs where it likes; the requests are ended in their loop."""
    # In debug mode asyncio complains about calls from other threads.
    asyncio.get_running_loop().set_debug(True)
    async with nothing_left() as (api, source):
        holder = [aiter(source)]
        await consume(holder[0], 150)
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
        assert api.in_flight == 12
    asyncio.get_running_loop().set_debug(False)


async def test_an_iterator_lives_as_long_as_it_is_waited_for() -> None:
    """`await anext(aiter(pager))` holds the only reference to the iterator."""
    api = Api.of(10, delays=(20,))
    assert await anext(aiter(pager(api.fetch))) == "row-00000"


def test_an_iterator_may_outlive_its_loop() -> None:
    """Left behind in a loop that has ended, an iterator has nothing to end, and says nothing."""
    api = Api.of(1_000, delays=(5,))
    rows = aiter(pager(api.fetch, 10))
    asyncio.run(consume(rows, 15))
    del rows
    gc.collect()
    assert api.in_flight == 0


async def test_a_request_that_somebody_cancels_is_sent_again() -> None:
    """Whoever reads the list is not cancelled, and gets every row once."""
    before = asyncio.all_tasks()
    for turns in range(20):
        api = Api.of(500, delays=(1, 3, 2))
        task = asyncio.create_task(read(pager(api.fetch, 10, window=4)))
        for _ in range(turns):
            await asyncio.sleep(0)
        for request in asyncio.all_tasks() - before - {task}:
            request.cancel()
        assert await task == api.rows
    assert asyncio.all_tasks() == before


async def test_cancelled_at_any_turn_a_listing_ends_cleanly() -> None:
    """Whenever the consumer is cancelled, no request and no task survives it."""
    before = asyncio.all_tasks()
    for turns in range(60):
        api = Api.of(2_000, delays=(1, 3, 2))
        task = asyncio.create_task(read(pager(api.fetch, 10, window=8)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough") as caught:
            await task
        await settle()
        # Although the traceback is still there.
        assert caught.value.__traceback__ is not None
        assert api.in_flight == 0
    assert asyncio.all_tasks() == before


async def test_async_with_makes_it_prompt() -> None:
    """At the end of the block all requests of a loop that was left, or that failed, have ended."""
    async with nothing_left() as (api, source):
        async with source:
            async for row in source:
                if row == "row-00150":
                    break
        assert api.in_flight == 0


async def test_async_with_passes_its_own_exception_on() -> None:
    """What is raised in the block comes out of it, also while another task waits for the next row."""

    async def fail(source: AsyncPager[str], waiting: list[asyncio.Task[list[str]]]) -> None:
        async with source:
            waiting.append(asyncio.create_task(read(source)))
            await settle()
            raise ZeroDivisionError

    async with nothing_left() as (api, source):
        waiting: list[asyncio.Task[list[str]]] = []
        with pytest.raises(ZeroDivisionError):
            await fail(source, waiting)
        assert api.in_flight == 0
        with pytest.raises(ClientClosedError, match="closed before its end"):
            await waiting[0]


async def test_aclose_ends_all_iterations() -> None:
    """Closed, an iterator raises rather than to pass for a list that has come to its end."""
    async with nothing_left(after=25) as (api, source):
        rows, pages, unused = aiter(source), source.pages(), aiter(source)
        await consume(rows, 150)
        await consume(pages, 2)
        assert api.in_flight > 0
        await source.aclose()
        await source.aclose()
        assert api.in_flight == 0
        for iterator in (rows, pages, unused):
            for _ in range(2):
                with pytest.raises(ClientClosedError, match="closed before its end"):
                    await anext(iterator)


async def test_aclose_leaves_what_has_ended_as_it_is() -> None:
    """A list that was read to its end stays at its end, and one that failed keeps its error."""
    api = Api.of(10)
    source = pager(api.fetch)
    rows = aiter(source)
    assert [row async for row in rows] == api.rows
    await source.aclose()
    assert [row async for row in rows] == []
    api.unreadable = frozenset(["row-00003"])
    rows = aiter(source)
    await consume(rows, 9)
    with suppress(ProtocolError):
        await anext(rows)
    await source.aclose()
    with pytest.raises(ProtocolError):
        await anext(rows)


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


async def test_failures_ahead_of_a_consumer_who_stops_are_nobodys() -> None:
    """A page asked for ahead that fails and is never wanted is not reported, not even as never retrieved."""
    api = Api.of(3_000)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
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


async def test_several_errors_at_the_end_are_all_told() -> None:
    """The first is raised, and notes name the others, up to a bound."""
    api = Api.of(300, unreadable=frozenset(names(300)[3::100]))

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        return attrs.evolve(await api.fetch(offset, limit), total_count=500)

    found, error = await read_until_error(pager(fetch))
    assert found == [row for row in names(300) if row not in api.unreadable]
    assert error is not None
    assert error.path == "row-00003"
    notes = error.__notes__
    assert notes[1:] == ["Another error: row-00103 cannot be read", "Another error: row-00203 cannot be read"]
    assert "counts 500 rows, but returned only 300," in notes[0]
    api.unreadable = frozenset(names(300))
    found, error = await read_until_error(pager(fetch))
    assert found == []
    assert error is not None
    assert "counts 500 rows" in error.__notes__[0]
    assert error.__notes__[-1] == "295 more errors"


def test_notes_about_other_errors_are_added_once() -> None:
    """An error that is made again has the same notes."""
    rows = KnownRows(Source(fetch=Api.of(1).fetch, path="/list", window=1))
    assert list(rows.add(fetched("a", total_count=2, offset=0, limit=1, unreadable=frozenset("a")))) == []
    errors = [rows.incomplete_error(counted=2, found=1) for _ in range(2)]
    assert [len(error.__notes__) for error in errors] == [1, 1]


async def test_collect_returns_what_came_and_the_error() -> None:
    """All of a list, or what could be read with the error that ended it; other iterations go on."""

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        if offset > 1:
            raise ServerError("no", status_code=500, method="GET", path="/list", message="no")
        rows = ["a", "b", "c", "d"][offset : offset + limit]
        return fetched(rows, total_count=4, offset=offset, limit=limit, unreadable=frozenset({"b"}))

    listing = pager(fetch, page_size=9)
    beside = aiter(listing)
    assert await anext(beside) == "a"
    items, error = await listing.collect()
    assert (items, type(error)) == (["a", "c", "d"], ProtocolError)
    items, error = await pager(fetch, page_size=1).collect()
    assert (items, type(error)) == (["a", "c"], ServerError)
    assert await anext(beside) == "c"
