"""Names that nobody else can have: their form, what a server may make of them, and when they expire."""

import hypothesis
import pytest
from hypothesis import strategies as st

from primepods._utils.unique_names import UniqueName, expiry_of, is_same_name, is_unique, unique_name

TIMES = st.floats(1_735_689_600, 3_700_000_000)


@hypothesis.given(st.text(max_size=80), TIMES | st.none())
def test_a_name_says_what_it_was_made_of(beginning: str, expires_at: float | None) -> None:
    """It is unique by its form, has 63 characters at most, and expires in the minute that was given."""
    name = unique_name(beginning, expires_at=expires_at)
    assert is_unique(name)
    assert len(name) <= 63
    assert beginning[:20].rstrip("-") == name[: len(beginning[:20].rstrip("-"))]
    expiry = expiry_of(name)
    assert (expiry is None) == (expires_at is None)
    assert expiry is None or expires_at is None or 0 <= expiry - expires_at < 61


@hypothesis.given(TIMES | st.none())
def test_a_server_may_respell_and_cut_it(expires_at: float | None) -> None:
    """Another case, other blanks, and a cut behind the suffix; more than that proves nothing."""
    name = unique_name("My Job", expires_at=expires_at)
    whole = name.without_expiry
    for theirs in (name, name.upper(), f" {name.lower()} ", name.replace(" ", "-"), whole, f"{whole}-"):
        assert is_same_name(name, theirs)
    for other in (None, "", "My Job", whole[:-1], f"{name}-2", f"x{name}", unique_name("My Job")):
        assert not is_same_name(name, other)


def test_no_two_are_the_same() -> None:
    """Forty bits are random."""
    assert len({unique_name("train") for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize(
    "name", ["train", "train-k3v9q2mxz7", "train-abcdefghjk-x12345", "train-x12345", "", None]
)
def test_a_chosen_name_has_no_expiry(name: str | None) -> None:
    """The check letters tell a name that looks like one of ours, and so does a cut."""
    assert expiry_of(name) is None
    made = unique_name("train", expires_at=1_800_000_000)
    assert expiry_of(made) is not None
    assert expiry_of(made[:-1]) is None
    assert expiry_of(f"{made}-2") is None


@pytest.mark.parametrize(("ours", "theirs", "same"), [("Job 1", "job  1 ", True), ("job-1", "job1", False)])
def test_chosen_names_are_compared_but_for_case_and_blanks(ours: str, theirs: str, *, same: bool) -> None:
    """No more than that: `job-1` and `job1` are two."""
    assert is_same_name(ours, theirs) is same
    assert not isinstance(ours, UniqueName)
