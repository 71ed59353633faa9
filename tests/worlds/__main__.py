"""Run worlds from the shell: ``python -m tests.worlds --worlds 1000``."""

import argparse
import os
import subprocess
import sys
import time
from typing import Final

from .run import story_names
from .search import Outcome, search

_PROGRESS_INTERVAL: Final = 60.0


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
    said_at = started
    for total, reports in search(options.worlds, seed, options.story, options.processes):
        for report in reports:
            say(report)
        if time.monotonic() > said_at + _PROGRESS_INTERVAL:
            said_at = time.monotonic()
            say(f"{sum(total.worlds.values())} worlds so far, {len(total.failures)} failed")
    seconds = time.monotonic() - started
    say("processor time of the stories, the dearest first:")
    for story, used in sorted(total.seconds.items(), key=lambda item: -item[1]):
        worlds = total.worlds[story]
        say(f"{used:6.1f} s {story}, {worlds} worlds of {1000 * used / worlds:.0f} ms")
    count = sum(total.worlds.values())
    say(
        f"{count} worlds, {len(total.failures)} failed, {seconds:.0f} s, {count / seconds:.1f} a second; "
        f"{sum(total.seconds.values()):.0f} s of processor time"
    )
    return 1 if total.failures else 0


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
