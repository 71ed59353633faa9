"""Every row that lasts exactly once, whatever comes and goes, at the price of a plain loop."""

import math
import re
from collections import Counter
from collections.abc import Callable
from random import Random

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primepods.pagination import FetchedPage
from tests.pagination.lists import Api, Change, Fetch, fetched, names, pager, read, read_until_error

pytestmark = pytest.mark.anyio  # all of them, for the loops and the thorough search of CI

CHANGES = st.lists(
    st.none()
    | st.builds(
        Change,
        st.sampled_from([0.0, 1.0]) | st.floats(0, 1),
        st.integers(-3, 3) | st.sampled_from([-250, -101, -100, -99, -50, 20, 99, 100, 250]),
    ),
    max_size=40,
)
WINDOWS = st.sampled_from([1, 2, 16])


@given(
    count=st.integers(0, 20) | st.integers(0, 400),
    changes=CHANGES,
    page_size=st.integers(1, 10) | st.integers(1, 250),
    window=WINDOWS,
    cap=st.just(1_000) | st.integers(2, 120),
    echoes_cap=st.booleans(),
    counts=st.booleans(),
    delays=st.lists(st.integers(0, 5), min_size=1, max_size=7),
    broken=st.sets(st.integers(0, 400), max_size=5) | st.sets(st.integers(0, 20)),
)
async def test_what_lasts_is_yielded_exactly_once(
    *,
    count: int,
    changes: list[Change | None],
    page_size: int,
    window: int,
    cap: int,
    echoes_cap: bool,
    counts: bool,
    delays: list[int],
    broken: set[int],
) -> None:
    """Every row that is there from the first request to the last comes once; unreadable ones are told."""
    at_first = names(count)
    api = Api(
        list(at_first),
        changes=changes,
        cap=cap,
        echoes_cap=echoes_cap,
        counts=counts,
        delays=delays,
        unreadable=frozenset(at_first[n] for n in broken if n < count),
    )
    found, error = await read_until_error(pager(api.fetch, page_size, window=window))
    lasting = set(at_first) - api.deleted
    assert len(found) == len(set(found))
    assert lasting - api.unreadable <= set(found)
    assert not api.unreadable & set(found)
    assert error is not None if lasting & api.unreadable else error is None or error.path in api.unreadable
    assert api.in_flight == 0


@attrs.define
class Replicas:
    """A primary, and a replica that has lost rows; each answer comes from one of them, perhaps cut short.

    The first answer is the primary's, and so is one of three in a row, in all and at the same offset: where
    only the replica answers, nobody can know better.
    """

    api: Api
    lags: list[bool]
    lost: int
    kept: list[int | None]
    in_a_row: Counter[int] = attrs.field(factory=Counter)
    answers: int = 0
    highest_count: int = 0

    async def fetch(self, offset: int, limit: int) -> FetchedPage[str]:
        """Answer with one page."""
        page = await self.api.fetch(offset, limit)
        keep = self.kept.pop() if self.kept else None
        if self.lags and self.lags.pop() and self.answers and max(self.in_a_row[n] for n in (-1, offset)) < 2:
            self.in_a_row.update([-1, offset])
            page = self.api.page(self.api.rows[: max(0, len(self.api.rows) - self.lost)], offset, limit)
        else:
            self.in_a_row[-1] = self.in_a_row[offset] = 0
        self.answers += 1
        self.highest_count = max(self.highest_count, page.total_count or 0)
        return attrs.evolve(page, rows=page.rows[:keep], keys=page.keys[:keep])


# Between two answers of the replica that confirm each other the primary counts more, and shows nothing.
LAGGING = [True, False, True, True, False]


@given(
    count=st.integers(0, 300),
    changes=CHANGES,
    page_size=st.integers(1, 60) | st.integers(100, 120),
    window=WINDOWS,
    lags=st.lists(st.booleans(), max_size=60),
    lost=st.integers(1, 120),
    kept=st.lists(st.none() | st.integers(0, 5), max_size=60),
)
@example(count=101, changes=[], page_size=100, window=1, lost=1, lags=LAGGING, kept=[0, None, None, None])
async def test_a_normal_end_is_complete_whatever_the_servers_do(
    *,
    count: int,
    changes: list[Change | None],
    page_size: int,
    window: int,
    lags: list[bool],
    lost: int,
    kept: list[int | None],
) -> None:
    """With lagging replicas and cut pages a list comes whole, or ends with an error; and it ends.

    Excused is what no count has told: a replica that has lost a row, and counts others that are new. Of what
    is asked for ahead, some counts are never looked at, so that changing lists say nothing there.
    """
    is_excused = window > 1 and any(changes)
    replicas = Replicas(Api.of(count, changes=changes), lags, lost, kept)
    at_first = set(replicas.api.rows)
    found, error = await read_until_error(pager(replicas.fetch, page_size, window=window))
    assert len(found) == len(set(found))
    is_counted = len(found) >= replicas.highest_count
    is_whole = at_first - replicas.api.deleted <= set(found)
    assert error is not None or is_counted or is_whole or is_excused
    assert replicas.answers < 3_000


@given(
    count=st.integers(0, 300),
    page_size=st.integers(1, 60),
    window=WINDOWS,
    kept=st.lists(st.none() | st.integers(1, 5), max_size=60),
)
async def test_a_page_that_is_cut_twice_in_a_row_hides_nothing(
    *, count: int, page_size: int, window: int, kept: list[int | None]
) -> None:
    """A page that is cut short now and then, while the count knows better, is no end and no error."""
    api = Api.of(count)
    cut: Counter[int] = Counter()

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        page = await api.fetch(offset, limit)
        keep = kept.pop() if kept else None
        if keep is None or cut[offset] == 2:
            cut[offset] = 0
            return page
        cut[offset] += 1
        return attrs.evolve(page, rows=page.rows[:keep], keys=page.keys[:keep])

    assert await read(pager(fetch, page_size, window=window)) == api.rows


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_row_that_can_be_read_once_is_yielded(*, is_first: bool) -> None:
    """The last row of a page comes again with the next; it can be read in one of the two."""
    later, api = frozenset(["row-00099"]), Api.of(150)
    if not is_first:
        later, api.unreadable = api.unreadable, later

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        page = await api.fetch(offset, limit)
        api.unreadable = later
        return page

    assert await read(pager(fetch)) == api.rows


@given(
    count=st.integers(0, 120),
    page_size=st.integers(1, 50),
    window=WINDOWS,
    totals=st.lists(st.none() | st.integers(0, 150) | st.just(10**12), min_size=1, max_size=6),
)
# Counts of the rows in the page, of one page, and of nothing, which have been seen.
@example(count=120, page_size=50, window=16, totals=[50, 50, 20])
@example(count=120, page_size=50, window=1, totals=[50])
@example(count=120, page_size=50, window=16, totals=[0])
async def test_a_count_that_lies_makes_nobody_lose_a_row(
    *, count: int, page_size: int, window: int, totals: list[int | None]
) -> None:
    """Whatever `total_count` says, the list is read to its end, in a bounded number of requests."""
    api = Api.of(count)

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        page = await api.fetch(offset, limit)
        return attrs.evolve(page, total_count=totals[len(api.asked) % len(totals)])

    found, error = await read_until_error(pager(fetch, page_size, window=window))
    assert found == api.rows
    assert error is None or max(total or 0 for total in totals) > count
    naive = 1 + count // page_size
    assert len(api.asked) <= 3 * naive + 10 + 2 * window


@given(
    count=st.integers(1, 200),
    page_size=st.integers(1, 60) | st.just(100),
    window=WINDOWS,
    moves=st.lists(st.none() | st.integers(0, 200), max_size=40),
    new=st.lists(st.booleans(), max_size=40),
)
async def test_records_that_move_to_the_front_are_found(
    *, count: int, page_size: int, window: int, moves: list[int | None], new: list[bool]
) -> None:
    """Records of the history that end while it is read, each once, leave their places: none is missed."""
    api = Api.of(count)
    at_first = set(api.rows)
    ended: set[str] = set()

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        if new and new.pop():
            api.changes = [Change(0.0, 1)]
        place = moves.pop() if moves else None
        if place is not None and place < len(api.rows) and api.rows[place] not in ended:
            ended.add(api.rows[place])
            api.rows.insert(0, api.rows.pop(place))
        return await api.fetch(offset, limit)

    found = await read(pager(fetch, page_size, window=window))
    assert len(found) == len(set(found))
    assert at_first <= set(found)


@pytest.mark.slow
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("window", [1, 16])
async def test_the_guarantee_is_cheap(*, counts: bool, window: int) -> None:
    """While nothing changes, no list takes more than 2 % more requests than a plain loop's, rounded up."""
    for count in [*range(420), *range(420, 3_000, 37), 9_900, 9_901, 9_999, 10_000, 10_001]:
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


@pytest.mark.parametrize("window", [1, 16])
async def test_one_row_a_page_without_a_count_is_told(window: int) -> None:
    """Such pages cannot overlap; one row that is all, or two from the second request on, are no error."""
    api = Api.of(25, cap=1, counts=False)
    found, error = await read_until_error(pager(api.fetch, window=window))
    assert found == api.rows[:1]
    assert "one row per page and no count" in str(error)
    assert len(api.asked) == 6
    for changes in ([], [None, Change(1.0, 1)]):
        api = Api.of(1, counts=False, changes=[*changes])
        assert await read(pager(api.fetch, window=window)) == api.rows


async def test_the_way_back_is_as_long_as_the_fall() -> None:
    """When rows before the place are deleted, the count tells how many: one step leads back to the ground."""
    api = Api.of(10_000, changes=[None] * 50 + [Change(0.0, -990)])
    assert len(await read(pager(api.fetch, window=1))) == 10_000
    # Besides the step back, the end is asked for twice more: the count has fallen.
    assert len(api.asked) <= 102 + 2 + 2


@pytest.mark.parametrize(
    ("page_size", "limit"), [(1, 2), (2, 3), (99, 100), (100, 100), (101, 101), (1000, 1000)]
)
async def test_the_overlap_rides_along_on_small_pages(page_size: int, limit: int) -> None:
    """Below 100 rows a page has one more than asked for, so that the overlap costs no request of its own."""
    api = Api.of(3 * page_size)
    assert await read(pager(api.fetch, page_size)) == api.rows
    assert {asked for _, asked in api.asked} == {limit}
    assert len(api.asked) <= 4


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
        assert at_first - api.deleted <= set(found)
        requests += len(api.asked)
    assert requests < 40 * (15 + 2) * 1.2


async def test_a_count_that_grows_is_no_contradiction() -> None:
    """Pods that are created while one lists are no reason for an error, wherever they come into the list."""
    for places in ([0.0], [0.5], [1.0], [0.25, 0.9]):
        api = Api.of(500, changes=[Change(place, 3) for place in places] * 200)
        at_first = set(api.rows)
        assert at_first <= set(await read(pager(api.fetch, 50, window=1)))
        assert len(api.asked) < 100


async def test_a_list_that_shrinks_to_nothing_ends() -> None:
    """Everything but the first page is deleted while it is read: the listing ends, in a few requests."""
    api = Api.of(20_000, changes=[None] * 20 + [Change(0.0, -20_000)])
    found = await read(pager(api.fetch, window=1))
    assert found[:100] == names(100)
    assert len(api.asked) < 60


async def test_more_rows_than_asked_for_are_taken() -> None:
    """A server that knows no limits gives everything at once: all of it is read, once."""
    api = Api.of(5_000, cap=10_000)
    found = await read(pager(lambda offset, _: api.fetch(offset, 10_000), 10))
    assert found == api.rows


async def test_rows_that_come_twice_in_a_page_are_yielded_once() -> None:
    """Duplicates within a page are the server's mistake, not the caller's problem."""

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        rows = ["a", "a", "b", "a", "c"][offset : offset + limit]
        return fetched(rows, total_count=5, offset=offset, limit=limit)

    assert await read(pager(fetch, 2)) == ["a", "b", "c"]
    assert await read(pager(fetch, 100)) == ["a", "b", "c"]


def ignores_offset(api: Api) -> Fetch:
    """Every page is the first."""
    return lambda _, limit: api.fetch(0, limit)


def ignores_offset_and_limit(api: Api) -> Fetch:
    """Every page is the first 38 rows; page by page, their offsets lead to an end at the count of 1,000."""
    api.cap, api.echoes_cap = 38, False
    return ignores_offset(api)


def never_ends(api: Api) -> Fetch:
    """There is always another page of rows that nobody has seen."""

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        api.asked.append((offset, limit))
        rows = [f"row-{n}" for n in range(offset, offset + limit)]
        return fetched(rows, total_count=offset + 10 * limit, offset=offset, limit=limit)

    return fetch


def gives_one_row(api: Api) -> Fetch:
    """Pages hold one row, whatever their limit, and count all of them."""
    api.cap, api.counts = 1, True
    return api.fetch


def counts_pages(api: Api) -> Fetch:
    """The offset is taken for a number of pages."""
    return lambda offset, limit: api.fetch(offset * limit, limit)


def floods(api: Api) -> Fetch:
    """A page's worth of rows is created in front of every page."""

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        api.changes = [Change(0.0, limit)]
        return await api.fetch(offset, limit)

    return fetch


@pytest.mark.parametrize("window", [1, 16])
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(
    ("misbehave", "complaint"),
    [
        (ignores_offset, "ignores `offset`"),
        (ignores_offset_and_limit, "ignores `offset`"),
        (never_ends, "no end after 500 requests"),
        (gives_one_row, "counts 1,000 rows, but returned only 1,"),
        (counts_pages, "no new rows"),
        (floods, "no new rows|no end"),
    ],
)
async def test_a_server_that_cannot_be_paged_is_told_so(
    *, misbehave: Callable[[Api], Fetch], complaint: str, counts: bool, window: int
) -> None:
    """No endless loop and no silent half of a list: an error that says what the server did, soon."""
    api = Api.of(1_000, counts=counts)
    found, error = await read_until_error(pager(misbehave(api), 50, window=window, max_requests=500))
    assert len(found) == len(set(found))
    assert error is not None
    assert re.search(complaint, str(error))
    assert f"({len(found):,} items were read)" in str(error)
    assert error.url_path == "/list"
    assert len(api.asked) <= 600
    assert api.in_flight == 0


async def test_rows_that_move_faster_than_they_are_read_are_told() -> None:
    """A list in another order in each answer is read a few times; that rows are missing is told."""
    api, random = Api.of(1_000), Random(5)

    async def fetch(offset: int, limit: int) -> FetchedPage[str]:
        random.shuffle(api.rows)
        return await api.fetch(offset, limit)

    found, error = await read_until_error(pager(fetch, 50))
    assert len(found) == len(set(found)) < 1_000
    assert f"counts 1,000 rows, but returned only {len(found)}," in str(error)
    assert len(api.asked) < 500


@pytest.mark.parametrize("window", [1, 16])
async def test_what_looks_wrong_and_is_not(window: int) -> None:
    """A list that moved by exactly a page is no server that ignores offsets."""
    api = Api.of(1_000, changes=[None, Change(0.0, 99)])
    assert set(await read(pager(api.fetch, window=window))) >= set(names(1_000))
