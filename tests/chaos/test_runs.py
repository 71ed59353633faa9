"""Many seeded runs with 30 % of all answers failing: the true result or an error of ours, in time."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.runs import JOBS, run_seeds

GROUP = 48
ORDINARY = 48
ENDURANCE = 240


def groups(first: int, number: int) -> list[range]:
    """Seeds, some for each test."""
    return [range(seed, seed + GROUP) for seed in range(first, first + number, GROUP)]


def check(seeds: range) -> None:
    """Run the seeds; and see that they were worth it."""
    total = asyncio.run(run_seeds(seeds))
    print(dict(total))
    assert total["runs"] == GROUP
    assert total["whole"] > GROUP // 2, "the runs prove little: most of them ended with an error"
    assert total["faults"] > 0.2 * total["requests"], "the runs prove little: few answers were bad"
    assert 2 * len(JOBS) <= GROUP, "each job runs patiently and not"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", groups(0, ORDINARY), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_never_a_wrong_answer_never_a_hang(seeds: range) -> None:
    """One that fails says its seed: ``python -m tests.chaos.runs SEED`` repeats it."""
    check(seeds)


@pytest.mark.slow
@pytest.mark.parametrize(
    "seeds", groups(1_000_000, ENDURANCE), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}"
)
def test_many_more_times_never_a_wrong_answer(seeds: range) -> None:
    """As above, for minutes."""
    check(seeds)
