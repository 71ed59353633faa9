"""Lists whose pages are counted from 1."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods import AsyncPager
from primepods.pagination import FetchedPage, Source, numbered_pager
from tests.pagination.lists import Api, read, read_until_error
from tests.support.clock import settle

pytestmark = pytest.mark.anyio  # all of them, for the loops and the thorough search of CI


@attrs.define
class Numbered:
    """A list by number of page in front of a list by offset.

    Attributes:
        api: The list.
        overstated: By how much its count is too high.
        lost: Which answers, in their order, come without their rows.
    """

    api: Api
    overstated: int = 0
    lost: list[bool] = attrs.field(factory=list)
    asked: list[int] = attrs.field(factory=list)

    async def fetch(self, number: int, page_size: int) -> FetchedPage[str]:
        """Answer with one page."""
        self.asked.append(number)
        size = min(page_size, self.api.cap)
        page = await self.api.fetch((number - 1) * size, size)
        if self.lost and self.lost.pop():
            page = attrs.evolve(page, rows=[], keys=[])
        if page.total_count is None:
            return page
        return attrs.evolve(page, total_count=page.total_count + self.overstated)

    def pager(self, page_size: int = 100, *, window: int = 16) -> AsyncPager[str]:
        """A pager of it."""
        return numbered_pager(Source(fetch=self.fetch, path="/offers", window=window), page_size)


@given(
    count=st.integers(0, 250),
    page_size=st.integers(1, 60) | st.just(100),
    window=st.sampled_from([1, 4]),
    cap=st.just(1_000) | st.integers(1, 50),
    overstated=st.just(0) | st.integers(1, 300),
    lost=st.lists(st.booleans(), max_size=30),
    broken=st.sets(st.integers(0, 250), max_size=4),
)
async def test_a_list_comes_whole_or_ends_with_an_error(
    *, count: int, page_size: int, window: int, cap: int, overstated: int, lost: list[bool], broken: set[int]
) -> None:
    """Each row once and in order; an overstated count, lost rows and unreadable ones are told at the end."""
    api = Api.of(count, cap=cap)
    api.unreadable = frozenset(api.rows[n] for n in broken if n < count)
    server = Numbered(api, overstated, list(lost))
    found, error = await read_until_error(server.pager(page_size, window=window))
    readable = [row for row in api.rows if row not in api.unreadable]
    assert found == readable[: len(found)]
    if error is None:
        assert found == readable
        assert not overstated
        assert not api.unreadable
    elif not any(lost):
        assert found == readable
    # Nothing loops, whatever the count says.
    assert len(server.asked) <= 3 * (1 + count // min(page_size, cap)) + 3 + len(lost) + 2 * window


async def test_an_overstated_count_gives_both_numbers() -> None:
    """The last page is asked for three times; then the error says what was counted and what came."""
    server = Numbered(Api.of(130), overstated=70)
    found, error = await read_until_error(server.pager())
    assert found == server.api.rows
    assert "counts 200 rows, but returned only 130," in str(error)
    assert server.asked == [1, 2, 3, 3, 3]
    # Asking again is no reason to ask ahead once more.
    server = Numbered(Api.of(130), overstated=2_000)
    assert (await read_until_error(server.pager(window=4)))[0] == server.api.rows
    # An eager task asks for the sixth, too, before it is cancelled.
    assert [number for number in server.asked if number < 6] == [1, 2, 3, 4, 5, 3, 3]


@pytest.mark.parametrize("cap", [1, 7, 100])
async def test_without_a_count_the_list_ends_at_an_empty_page(cap: int) -> None:
    """However few rows a page has; a count that only the first page states is not forgotten."""
    server = Numbered(Api.of(25, cap=cap, counts=False))
    assert await read(server.pager()) == server.api.rows

    async def fetch(number: int, page_size: int) -> FetchedPage[str]:
        page = await server.fetch(number, page_size)
        return attrs.evolve(page, total_count=26 if number == 1 else None)

    found, error = await read_until_error(numbered_pager(Source(fetch=fetch, path="/offers", window=4), 100))
    assert found == server.api.rows
    assert "counts 26 rows, but returned only 25," in str(error)


async def test_no_more_pages_than_needed_are_asked_for() -> None:
    """One request where one page holds all; nothing is said twice; behind a full page one looks once."""
    for count, expected in [(0, [1, 1]), (1, [1]), (99, [1]), (100, [1, 2]), (250, [1, 2, 3])]:
        server = Numbered(Api.of(count))
        assert await read(server.pager()) == server.api.rows
        assert server.asked == expected


async def test_pages_are_asked_for_ahead_from_the_second_on() -> None:
    """As many as the window holds, and none behind the count."""
    server = Numbered(Api.of(950, delays=(1,)))
    rows = aiter(server.pager(window=4))
    for _ in range(100):
        await anext(rows)
        await settle()
        assert server.asked == [1]
    await anext(rows)
    await settle()
    assert server.asked == [1, 2, 3, 4, 5]
    assert len([row async for row in rows]) == 849
    assert server.asked == list(range(1, 11))


async def test_rows_that_move_to_the_next_page_come_once() -> None:
    """An offer that is pushed onto a later page by a new one is not yielded twice."""
    api = Api.of(50)
    server = Numbered(api)
    rows = aiter(server.pager(10, window=1))
    found = [await anext(rows) for _ in range(10)]
    api.rows.insert(0, "new")
    found += [row async for row in rows]
    assert found == [row for row in api.rows if row != "new"]


async def test_a_server_that_ignores_the_number_is_told_so() -> None:
    """The same page again and again is no list without an end."""
    api = Api.of(50)
    source = Source(fetch=lambda _, size: api.fetch(0, size), path="/offers", window=4)
    found, error = await read_until_error(numbered_pager(source, 10))
    assert found == api.rows[:10]
    assert "ignores the page number" in str(error)
    assert len(api.asked) < 30
