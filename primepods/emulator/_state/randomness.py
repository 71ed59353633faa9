"""Where all the randomness comes from: streams that depend on the seed and on nothing else."""

from random import Random


def stream(seed: int, purpose: str) -> Random:
    """The random numbers for one purpose; the same seed and purpose always give the same ones."""
    return Random(f"{seed}:{purpose}")
