"""Random numbers that depend only on the seed and their purpose."""

from __future__ import annotations

from random import Random


def random_for(seed: int, purpose: str) -> Random:
    return Random(f"{seed}:{purpose}")
