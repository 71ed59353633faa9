"""Search for failing worlds in several processes, and report each failure with its shrunk schedule."""

from __future__ import annotations

import gc
import logging
import os
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

import attrs

from tests.support.forks import end_with_parent

from .run import SHRINK_SECONDS, Story, load, run, shrink, story_names, story_of
from .world import World

_BATCH: Final = 20
_TIMELINE: Final = 60
_MAX_LINES: Final = 60


@attrs.frozen
class Batch:
    """Worlds for one process to run.

    Attributes:
        seeds: Their seeds.
        story: Their story; ``None`` for the story of each seed.
    """

    seeds: Sequence[int]
    story: str | None


@attrs.frozen
class Failure:
    """A world in which something failed.

    Attributes:
        story: Its story.
        seed: Its seed.
        error: What failed.
    """

    story: str
    seed: int
    error: str

    @property
    def command(self) -> str:
        """The command that replays it, and shrinks it again."""
        return f"python -m tests.worlds --story {self.story} --seed {self.seed} --worlds 1"


@attrs.define
class Outcome:
    """What became of some worlds.

    Attributes:
        worlds: Number of worlds by story.
        seconds: Their processor time by story.
        failures: The worlds that failed.
    """

    worlds: Counter[str] = attrs.field(factory=Counter[str])
    seconds: defaultdict[str, float] = attrs.field(factory=lambda: defaultdict[str, float](float))
    failures: list[Failure] = attrs.field(factory=list[Failure])

    def add(self, other: Outcome) -> None:
        """Add other worlds."""
        self.worlds += other.worlds
        for story, seconds in other.seconds.items():
            self.seconds[story] += seconds
        self.failures += other.failures


def _prepare() -> None:
    """Prepare a process: quiet, without settings of its user, and gone when the search is."""
    end_with_parent()
    for name in list(os.environ):
        if name.startswith("PRIME_"):
            del os.environ[name]
    os.environ["HOME"] = "/nonexistent"
    logging.getLogger("primepods").propagate = False
    logging.getLogger("primepods").addHandler(logging.NullHandler())
    logging.getLogger("primepods").setLevel(logging.INFO)
    logging.getLogger("aiohttp").disabled = True
    logging.getLogger("aiohttp.server").disabled = True
    stories = {name: load(name) for name in story_names()}
    for name in ("cancelled", "jobs"):
        run(stories[name], 0)
    gc.disable()  # simloom collects garbage at the end of each world


def run_batch(batch: Batch) -> Outcome:
    """Run worlds in this process."""
    outcome = Outcome()
    # What is there by now, such as the states of the model, is not searched for garbage in each world.
    gc.collect()
    gc.freeze()
    for seed in batch.seeds:
        story = batch.story or story_of(seed)
        started = time.process_time()
        result, _ = run(load(story), seed)
        outcome.worlds[story] += 1
        outcome.seconds[story] += time.process_time() - started
        if result.error is not None:
            outcome.failures.append(Failure(story, seed, f"{type(result.error).__name__}: {result.error}"))
    return outcome


def describe(story: Story, seed: int, seconds: float = SHRINK_SECONDS) -> str:
    """Return the report of a failure: its traceback, its shrunk schedule, and what happened in that."""
    result, _ = run(story, seed)
    if result.error is None:
        return "It did not fail again: the world depends on something that its seed does not decide."
    schedule, world = shrink(story, seed, result, seconds)
    lines = schedule.splitlines()
    if len(lines) > _MAX_LINES:
        lines = [*lines[:_MAX_LINES], f"  … and {len(lines) - _MAX_LINES} more"]
    return "\n".join([*traceback.format_exception(result.error), *lines, *_timeline(world)])


def _timeline(world: World | None) -> list[str]:
    """Return what happened in a world: the requests and what was said, in the order of time."""
    if world is None or not hasattr(world, "emulator"):
        return []
    requests = [
        f"{request.time:12.4f} {request.method} {request.path[:80]} {request.status} "
        + " ".join(request.faults)
        for request in world.emulator.requests
    ]
    lines = sorted([*requests, *world.told], key=lambda line: float(line[:12]))
    return ["what happened in it:", *lines[:_TIMELINE], f"({len(lines)} lines in all)"]


def search(worlds: int, seed: int, story: str | None, processes: int) -> Iterator[tuple[Outcome, list[str]]]:
    """Run worlds in processes; yield the outcome so far after each batch, with reports of new failures.

    Only the first failure of each story is shrunk.
    """
    # A child's order of sets depends on this, and with it the meaning of a seed.
    os.environ["PYTHONHASHSEED"] = "0"
    seeds = range(seed, seed + worlds)
    batches = [Batch(seeds[start : start + _BATCH], story) for start in range(0, worlds, _BATCH)]
    total = Outcome()
    described: set[str] = set()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_prepare) as pool:
        for outcome in pool.map(run_batch, batches):
            total.add(outcome)
            reports = []
            for failure in outcome.failures:
                text = f"FAILED story {failure.story}, seed {failure.seed}: {failure.error}"
                if failure.story not in described:
                    described.add(failure.story)
                    text += f"\n{pool.submit(describe, load(failure.story), failure.seed).result()}"
                reports.append(f"{text}\nreplay it: {failure.command}\n")
            yield total, reports
