"""Measurement: samples taken in turns, reported as medians, spreads and ratios of pairs."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Job = Callable[[], Mapping[str, float] | float]
"""Prepares and runs one job once; returns its figure, or several figures by name."""


@dataclass(frozen=True)
class Target:
    """Target of a ratio.

    Attributes:
        bound: The limit.
        is_minimum: ``True`` if the limit is a minimum, not a maximum.
    """

    bound: float
    is_minimum: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether a value meets the target."""
        return value >= self.bound if self.is_minimum else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.is_minimum else '≤'} {self.bound:g}"


@dataclass(frozen=True)
class Row:
    """One row of the table: our figure, the figure compared with it, and the target.

    Attributes:
        key: Machine-readable name.
        what: Description.
        ours: Our samples.
        other: The other client's samples, each taken next to ours; empty if there is no comparison.
        against: Name of the other client.
        unit: ``"s"``, ``"B"``, or empty.
        inverse: ``True`` if the ratio is the other's figure divided by ours, that is, our speed-up.
        target: Target of the ratio, or of the figure if there is no comparison.
    """

    key: str
    what: str
    ours: Sequence[float]
    other: Sequence[float] = ()
    against: str = ""
    unit: str = "s"
    inverse: bool = False
    target: Target | None = None

    @property
    def values(self) -> list[float]:
        """Return the values that the target applies to, one per repetition."""
        if not self.other:
            return list(self.ours)
        pairs = zip(self.ours, self.other, strict=True)
        return [other / ours if self.inverse else ours / other for ours, other in pairs]

    @property
    def is_met(self) -> bool | None:
        """Return whether the target is met; ``None`` without a target."""
        return None if self.target is None else self.target.is_met(statistics.median(self.values))


@dataclass(frozen=True)
class Contest:
    """One job of several clients, for the picture."""

    what: str
    clients: Mapping[str, Sequence[float]]


def interleave(jobs: Mapping[str, Job], *, repetitions: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Run all jobs in turns, in rotating order; return the samples of each figure.

    A figure is named after its job: ``job``, or ``job:figure`` if the job has several.
    """
    samples: dict[str, list[float]] = {}
    names = list(jobs)
    for repetition in range(warm_up + repetitions):
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            result = jobs[name]()
            if repetition < warm_up:
                continue
            if isinstance(result, Mapping):
                figures = {f"{name}:{figure}": value for figure, value in result.items()}
            else:
                figures = {name: result}
            for figure, value in figures.items():
                samples.setdefault(figure, []).append(value)
    return samples


def seconds(call: Callable[[], object], times: int = 1) -> float:
    """Return the average duration of ``times`` calls, in seconds."""
    started_at = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started_at) / times


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile."""
    if len(samples) == 1:
        return samples[0], samples[0]
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, third


def exponent(figures: Mapping[int, float]) -> float:
    """Return the exponent ``e`` of the best fit ``n ** e``; 1 is linear."""
    xs = [math.log(size) for size in figures]
    ys = [math.log(max(figure, 1e-9)) for figure in figures.values()]
    return statistics.linear_regression(xs, ys).slope


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """Return the summary of samples for the JSON file."""
    first, third = quartiles(samples)
    return {"median": statistics.median(samples), "q1": first, "q3": third, "n": len(samples)}
