"""Random numbers that depend on the seed and on what they are for, and on nothing else."""

from __future__ import annotations

from random import Random


def random_for(seed: int, purpose: str) -> Random:
    """Return the random numbers for one purpose, the same for the same seed and purpose."""
    return Random(f"{seed}:{purpose}")
