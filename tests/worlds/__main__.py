"""Run worlds from the shell: ``python -m tests.worlds --worlds 1000``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from .run import story_names
from .search import Outcome, search


def seed_of_commit() -> int:
    """Return a seed from the current commit, so that each commit has other worlds, and always the same."""
    command = ["git", "rev-parse", "--short=8", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return int(commit or "0", 16)


def main() -> int:
    """Run worlds; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.worlds", description=__doc__)
    parser.add_argument("--worlds", type=int, default=300, help="number of worlds (default: 300)")
    parser.add_argument("--seed", type=int, help="seed of the first world (default: from the commit)")
    parser.add_argument("--story", choices=story_names(), help="only this story (default: all in turn)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    seed = seed_of_commit() if options.seed is None else options.seed
    say(f"{options.worlds} worlds from seed {seed} on, in {options.processes} processes")
    started = time.monotonic()
    total = Outcome()
    for total, reports in search(options.worlds, seed, options.story, options.processes):  # noqa: B007 - the last
        for report in reports:
            say(report)
    seconds = time.monotonic() - started
    for story in sorted(total.worlds):
        say(f"{total.worlds[story]:6} {story}, {total.steps[story] // total.worlds[story]} events a world")
    count = sum(total.worlds.values())
    say(f"{count} worlds, {len(total.failures)} failed, {seconds:.0f} s, {count / seconds:.1f} a second")
    return 1 if total.failures else 0


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
