"""Measure everything: `python -m benchmarks [--quick] [--output FOLDER] [--only GROUP ...]`.

The server runs in its own process; candidates are measured in turns, several times, after a warm-up. Prints
medians with quartiles, and ratios of pairs that were measured next to each other; writes `results.json` and
`results.svg` beside this file, or, with `--quick`, only to the `--output` folder.

Needs the dependency group `bench`. Peers that are not installed are skipped and listed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from . import report
from .bench import Bench, Selector
from .decoding import decoding
from .fetching import contests, growth, listing, single, statuses
from .measure import Contest, Row
from .picture import draw
from .server import make_certificate, running
from .startup import startup
from .watching import memory, ticks

GROUPS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "statuses": statuses,
    "decoding": decoding,
    "ticks": ticks,
    "memory": memory,
    "startup": startup,
    "single": single,
    "growth": growth,
}


_TRUSTED = "PRIMEPODS_BENCHMARKS_TLS"


def measure(bench: Bench, only: list[str]) -> tuple[list[Row], list[Contest]]:
    """Run the groups in ``only``, or all if it is empty; print and return their results."""
    rows: list[Row] = []
    contest_results: list[Contest] = []
    wanted = only or ["contests", *GROUPS]
    if "contests" in wanted:
        for contest in contests(bench):
            contest_results.append(contest)
            print(*report.contest_table(contest), sep="\n", flush=True)
    print(f"\n{report.HEAD}", flush=True)
    groups = {"contests": lambda _: listing(contest_results), **GROUPS}
    for name, group in groups.items():
        for row in group(bench) if name in wanted else ():
            rows.append(row)
            print(report.table_row(row), flush=True)
    return rows, contest_results


def main() -> None:
    """Run the benchmarks; print and write the results."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few pods and repetitions: to see that it works")
    parser.add_argument("--output", type=Path, help="folder for results.json and results.svg")
    parser.add_argument(
        "--tls", action="store_true", help="over TLS, with compressed responses; writes no file"
    )
    parser.add_argument("--only", nargs="+", default=[], choices=[*GROUPS, "contests"], metavar="GROUP")
    options = parser.parse_args()
    if options.tls and _TRUSTED not in os.environ:
        # In a new process, because aiohttp reads the trusted certificates when it is imported.
        with tempfile.TemporaryDirectory() as folder:
            file = str(make_certificate(Path(folder)))
            trust = {"SSL_CERT_FILE": file, "REQUESTS_CA_BUNDLE": file, _TRUSTED: "1"}
            command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
            sys.exit(subprocess.run(command, env=os.environ | trust, check=False).returncode)
    is_complete = not options.quick and not options.only and not options.tls
    output = options.output or (Path(__file__).parent if is_complete else None)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    started_at = time.monotonic()
    # The official client reads, and may write, files in the home directory.
    selector = Selector()
    loop_factory = partial(asyncio.SelectorEventLoop, selector)
    with tempfile.TemporaryDirectory() as home, asyncio.Runner(loop_factory=loop_factory) as runner:
        os.environ |= {"HOME": home, "USERPROFILE": home, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        for name in [name for name in os.environ if name.startswith("PRIME_")]:
            del os.environ[name]
        print(report.machine())
        for name in report.missing_peers():
            print(f"{name} is not installed and is left out")
        population = 2_000 if options.quick else 100_000
        with running(population, Path(os.environ["SSL_CERT_FILE"]) if options.tls else None) as server:
            bench = Bench(server, runner, selector, population)
            if options.quick:
                bench = replace(bench, pods=200, repetitions=1, sizes=(100, 200))
            rows, found = measure(bench, options.only)
    print(f"\n{time.monotonic() - started_at:.0f} s", "(quick: quote no figures)" if options.quick else "")
    if output is not None:
        results = report.as_json(rows, found)
        (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (output / "results.svg").write_text(draw(found, results["machine"]))
        print(f"written to {output}")


if __name__ == "__main__":
    main()
