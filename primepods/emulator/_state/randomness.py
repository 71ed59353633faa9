"""Random numbers that depend on the seed and on what they are for, and on nothing else."""

from random import Random


def random_for(seed: int, purpose: str) -> Random:
    """The random numbers for one purpose; the same seed and purpose always give the same ones."""
    return Random(f"{seed}:{purpose}")
