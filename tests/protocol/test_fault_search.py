"""Finding the few that make a request for many fail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from primepods._utils.fault_search import FaultSearch

Search = FaultSearch[int, Exception]


def run(search: Search, bad: set[int], *, prefer_good: bool = False) -> int:
    """Ask until nothing is left to ask; returns how many requests that took."""
    requests = 0
    while items := search.next_items(prefer_good=prefer_good):
        requests += 1
        if bad & set(items):
            search.failed(items, ValueError(str(items)))
        else:
            search.passed(items)
    return requests


@given(st.integers(2, 120), st.sets(st.integers(0, 119), max_size=10), st.booleans())
def test_the_culprits_are_found_and_all_others_cleared(
    count: int,
    bad: set[int],
    prefer_good: bool,
) -> None:
    """Each with the error that it has alone; in about log2(n) requests each."""
    bad = {item for item in bad if item < count}
    search = Search(list(range(count)), ValueError("all"))
    search.has_success = True
    requests = run(search, bad, prefer_good=prefer_good)
    assert set(search.culprits) == bad
    assert all(str(error) == f"[{item}]" for item, error in search.culprits.items())
    assert search.undecided == []
    assert requests <= 4 + 12 * len(bad)


@given(st.integers(9, 120))
def test_where_everything_fails_it_gives_up(count: int) -> None:
    """After eight failures, the first included."""
    search = Search(list(range(count)), ValueError("all"))
    assert run(search, set(range(count))) == 7
    assert search.given_up


@given(st.integers(100, 120), st.sets(st.integers(0, 119), max_size=6))
def test_a_few_culprits_are_no_reason_to_give_up(count: int, bad: set[int]) -> None:
    """However they are spread."""
    search = Search(list(range(count)), ValueError("all"))
    run(search, bad)
    assert not search.given_up


@given(st.integers(2, 60), st.data())
def test_what_is_discarded_is_asked_for_no_more(count: int, data: st.DataObject) -> None:
    """At any time, also while a request for it is under way."""
    search = Search(list(range(count)), ValueError("all"))
    search.has_success = True
    bad = data.draw(st.sets(st.integers(0, count - 1)), label="bad")
    discarded: set[int] = set()
    while items := search.next_items():
        assert not discarded & set(items)
        for item in data.draw(st.lists(st.integers(0, count - 1), max_size=3), label="discarded"):
            search.discard([item])
            discarded.add(item)
        if bad & set(items):
            search.failed(items, ValueError())
        else:
            search.passed(items)
    assert set(search.culprits) - discarded == bad - discarded
