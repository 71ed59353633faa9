"""Unchanged answers are not decoded again, and what is kept of them is bounded in size and age."""

from hypothesis import given
from hypothesis import strategies as st

from primepods._http.response_cache import MAX_IDLE, ResponseCache
from tests.support.clock import ManualClock


def test_the_least_recently_used_answer_goes_first() -> None:
    """An answer that still comes is kept."""
    cache = ResponseCache(200, ManualClock())
    for n in range(20):
        cache.put(str(n), b"x" * 9, n)
        cache.get("0", b"x" * 9)
    assert cache.get("0", b"x" * 9) == 0
    assert cache.get("1", b"x" * 9) is None
    assert cache.get("19", b"x" * 9) == 19


def test_what_is_not_asked_for_again_is_dropped() -> None:
    """A poller whose pods come and go asks for other pods at each tick: the old answers do not pile up."""
    clock = ManualClock()
    cache = ResponseCache(1_000_000, clock)
    for n in range(100):
        cache.put(f"/status?tick={n}", b"x", n)
        assert cache.get("/status?tick=0", b"x") == 0
        clock.jump(clock.time() + MAX_IDLE / 10)
    kept = [n for n in range(100) if cache.get(f"/status?tick={n}", b"x") is not None]
    assert kept == [0, *range(89, 100)]


@given(
    answers=st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=300))),
    max_bytes=st.integers(0, 3_000),
)
def test_no_more_bytes_are_kept_than_allowed(answers: list[tuple[str, bytes]], max_bytes: int) -> None:
    """Whatever comes in whatever order."""
    cache = ResponseCache(max_bytes, ManualClock())
    last: dict[str, bytes] = {}
    for target, body in answers:
        cache.put(target, body, len(body))
        last[target] = body
        kept = [(name, found) for name, found in last.items() if cache.get(name, found) is not None]
        assert sum(len(name) + len(found) for name, found in kept) <= max_bytes
