"""The figures of a fleet: counts, prices, costs, and how they have changed."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods import Pod, PodChange, PodState, PodStatus
from primepods.fleet import Condition, Fleet, condition_of
from tests.fleet.changes import BEGIN, ROWS, Timeline, change

WORDS = [*ROWS, "gone"]


def a_pod(pod_id: str, **fields: object) -> Pod:
    """A pod as the list has it, half an hour old."""
    given = {"name": f"name of {pod_id}", "created_at": BEGIN - timedelta(minutes=30)} | fields
    return Pod(id=pod_id, gpu_name="H100_80GB", gpu_count=8, price_hr=4.0, provider_type="x", **given)  # type: ignore[arg-type] # the test's own fields


@pytest.mark.parametrize("word", WORDS)
def test_conditions(word: str) -> None:
    """Each state has its word; one that nobody knows yet, too."""
    assert condition_of(change("a", word).after) == Condition(word)


def test_no_status_is_unknown() -> None:
    """What the API does not say is not made up."""
    assert condition_of(PodStatus(pod_id="a")) is Condition.UNKNOWN


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(WORDS))))
def test_counts_are_those_of_the_pods(steps: list[tuple[str, str]]) -> None:
    """Whatever happens in whatever order."""
    fleet = Fleet()
    for pod_id, word in steps:
        fleet.add(change(pod_id, word))
    last = dict(steps)
    assert fleet.counts == {
        condition: count for condition in Condition if (count := list(last.values()).count(condition))
    }
    assert sum(fleet.counts.values()) == len(fleet.pods())
    assert fleet.version == len(steps)
    assert fleet.cost_per_hr == sum(pod.price_hr for pod in fleet.pods()) >= 0.0


def test_costs_from_creation_until_gone() -> None:
    """The time before it was seen counts, by the list; a price that changes counts from then on."""
    clock = Timeline()
    fleet = Fleet([a_pod("a"), "b"], now=clock)
    fleet.add(change("a", "ready", price=4.0))
    fleet.add(change("b", "ready", price=1.0))
    assert fleet.cost_per_hr == 5.0
    assert fleet.spent == pytest.approx(2.0)
    clock.advance(3600)
    fleet.add(change("a", "ready", price=6.0))
    clock.advance(3600)
    fleet.add(change("a", "gone"))
    clock.advance(3600)
    assert fleet.cost_per_hr == 1.0
    assert fleet.spent == pytest.approx(2.0 + 4.0 + 6.0 + 3.0)


@pytest.mark.parametrize(
    ("word", "price", "fields", "costs"),
    [
        ("ready", None, {}, 4.0),
        ("ready", float("nan"), {}, 0.0),
        ("stopped", 2.0, {"stopped_price_hr": 0.5}, 0.5),
        ("stopped", 2.0, {}, 2.0),
        ("deleting", 2.0, {}, 2.0),
    ],
)
def test_price_as_it_is_now(word: str, price: float | None, fields: dict[str, object], costs: float) -> None:
    """The status's price, else the list's; that of a stopped pod; nothing is free before it is gone."""
    fleet = Fleet([a_pod("a", **fields)])
    fleet.add(change("a", word, price=price))
    assert fleet.cost_per_hr == costs


def test_terminated_costs_nothing() -> None:
    """Its row may still be there."""
    fleet = Fleet()
    row = PodStatus(pod_id="a", status=PodState.TERMINATED, cost_per_hr=2.0)
    fleet.add(PodChange(pod_id="a", before=None, after=row))
    assert (fleet.cost_per_hr, fleet.counts) == (0.0, {Condition.DELETING: 1})


def test_creation_in_the_future_costs_nothing_yet() -> None:
    """The clocks of two machines differ."""
    fleet = Fleet([a_pod("a", created_at=BEGIN + timedelta(hours=1))], now=Timeline())
    fleet.add(change("a", "ready"))
    assert fleet.spent == 0.0


def test_what_needs_looking_at_comes_first() -> None:
    """Failed, on their way, not seen, ready, gone; then by name; no more than are wanted."""
    fleet = Fleet([a_pod("r1"), "new", a_pod("r0")])
    for pod_id, word in [
        ("r1", "ready"),
        ("g", "gone"),
        ("f", "failed"),
        ("r0", "ready"),
        ("i", "installing"),
    ]:
        fleet.add(change(pod_id, word))
    assert [pod.pod_id for pod in fleet.pods()] == ["f", "i", "new", "r0", "r1", "g"]
    assert [pod.name for pod in fleet.pods(4)] == ["f", "i", "new", "name of r0"]


def test_expecting_twice_adds_what_was_not_known() -> None:
    """A pod that was known by its id alone gets its name; only data that differs raises the version."""
    fleet = Fleet(["a"])
    assert fleet.expect([a_pod("a"), "b"]) == ["b"]
    assert [pod.name for pod in fleet.pods()] == ["b", "name of a"]
    for name, version in (("name of a", 2), ("renamed", 3)):
        assert fleet.expect([a_pod("a", name=name)]) == []
        assert fleet.version == version


def test_samples_show_the_way() -> None:
    """A sample for what changed at about the same time, and one for now."""
    clock = Timeline()
    fleet = Fleet(now=clock)
    assert not fleet.samples
    fleet.add(change("a", "pending"))
    fleet.add(change("b", "pending"))
    clock.advance(10)
    fleet.add(change("a", "ready"))
    clock.advance(10)
    ways = [((sample.time - BEGIN).total_seconds(), dict(sample.counts)) for sample in fleet.samples]
    assert ways == [(0, {"pending": 2}), (10, {"pending": 1, "ready": 1}), (20, {"pending": 1, "ready": 1})]


def test_memory_is_bounded() -> None:
    """Of many pods that come and go, and of many changes, some are kept; the sums are of all."""
    clock = Timeline()
    fleet = Fleet(now=clock)
    for number in range(3_000):
        fleet.add(change(f"pod{number}", "ready", price=3.0))
        clock.advance(3600)
        fleet.add(change(f"pod{number}", "gone"))
    assert len(fleet.pods()) == 1_000
    assert len(fleet.samples) <= 1_001
    assert (fleet.samples[0].time, fleet.counts) == (BEGIN, {Condition.GONE: 3_000})
    assert fleet.spent == pytest.approx(9_000)
