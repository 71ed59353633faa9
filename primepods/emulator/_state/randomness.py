"""Random numbers that depend only on the seed and their purpose."""

from __future__ import annotations

from random import Random


def random_for(seed: int, purpose: str) -> Random:
    """Return a generator for one purpose; the same seed and purpose give the same numbers."""
    return Random(f"{seed}:{purpose}")
