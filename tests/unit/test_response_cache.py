"""Unchanged answers are not decoded again, and what is kept of them is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from primepods._http.response_cache import ResponseCache


def test_only_the_same_body_of_the_same_target_is_an_unchanged_answer() -> None:
    """Another body, or another request, is decoded."""
    cache = ResponseCache(10_000)
    cache.put("/a", b"1", "one")
    assert (cache.get("/a", b"1"), cache.get("/a", b"2"), cache.get("/b", b"1")) == ("one", None, None)
    cache.put("/a", b"2", "two")
    assert (cache.get("/a", b"1"), cache.get("/a", b"2")) == (None, "two")


def test_the_least_recently_used_answer_goes_first() -> None:
    """An answer that still comes is kept."""
    cache = ResponseCache(200)
    for n in range(20):
        cache.put(str(n), b"x" * 9, n)
        cache.get("0", b"x" * 9)
    assert cache.get("0", b"x" * 9) == 0
    assert cache.get("1", b"x" * 9) is None
    assert cache.get("19", b"x" * 9) == 19


@given(
    answers=st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=300))),
    max_bytes=st.integers(0, 3_000),
)
def test_no_more_bytes_are_kept_than_allowed(answers: list[tuple[str, bytes]], max_bytes: int) -> None:
    """Whatever comes in whatever order."""
    cache = ResponseCache(max_bytes)
    last: dict[str, bytes] = {}
    for target, body in answers:
        cache.put(target, body, len(body))
        last[target] = body
        kept = [(name, found) for name, found in last.items() if cache.get(name, found) is not None]
        assert sum(len(name) + len(found) for name, found in kept) <= max_bytes
