"""The benchmarks run, and print sane things. No thresholds: figures of a test machine mean nothing."""

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.fleet import rows
from primepods.emulator import Emulator

from ..emulator.caller import PODS, Caller
from . import ROOT, run

# What is measured wherever aiohttp is: whoever compares two machines finds these in both.
KEYS = {
    "statuses wall server 0 ms",
    "statuses wall again server 0 ms",
    "statuses wall server 50 ms",
    "list floor server 0 ms",
    "decoding status rows, parsing alone, untyped",
    "decoding pods, parsing alone, untyped",
    "tick wall",
    "tick cpu",
    "memory watched",
    "import",
    "growth time of `statuses`",
    "growth time of `list`",
    "growth memory of `watch`",
}


@pytest.mark.slow
def test_it_also_measures_over_tls() -> None:
    """With a certificate of its own, and responses that are compressed; it writes no file."""
    done = run("benchmarks", "--quick", "--tls", "--only", "statuses")
    assert "`statuses` of 200 pods, first time, server 0 ms" in done.stdout


@pytest.mark.slow
def test_it_measures_trials_on_few_pods() -> None:
    """In each of three ways, of which only a lease each rents a pod for each trial."""
    done = run("benchmarks.sweep", "--trials", "5", "--boot-seconds", "0.1", "--trial-seconds", "0")
    rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()[2:]]
    assert {row[1]: row[4] for row in rows} == {
        "a lease each, four at a time": "5",
        "four leases and a queue, by hand": "4",
        "a pool of four": "4",
    }


def test_the_paper_has_the_simulated_retries() -> None:
    """They depend on no machine: each row of the table is what is simulated now."""
    rows = run("benchmarks.retries").stdout.splitlines()[2:]
    paper = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert len(rows) == 4
    assert [row for row in rows if row not in paper] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_is_measured_and_written(tmp_path: Path) -> None:
    """`python -m benchmarks --quick`, as CI runs it; the folder is made."""
    folder = tmp_path / "new" / "results"
    settings = {"PRIME_API_KEY": "must not be sent", "PYTHONWARNINGS": "error"}
    done = run("benchmarks", "--quick", "--output", str(folder), **settings)
    assert not done.stderr
    results = json.loads((folder / "results.json").read_text())
    found = {row["key"]: row for row in results["rows"]}
    assert found.keys() >= KEYS
    for row in found.values():
        check_figures(row)
        assert row["what"] in done.stdout
    for contest in results["contests"]:
        assert contest["clients"].keys() >= {"floor", "primepods"}
    for peer in results["absent"]:
        assert f"{peer} is not installed and is left out" in done.stdout
    assert "Python" in results["machine"]
    picture = ET.parse(folder / "results.svg").getroot()
    assert picture.tag.endswith("svg")
    assert len(picture) > 20


@pytest.mark.slow
def test_the_benchmark_of_waiting_prints_its_table() -> None:
    """Every way to wait is measured; on any machine the loops send a request a waiter, the poller fewer."""
    done = run("benchmarks.waiting", "--quick", PYTHONWARNINGS="error")
    assert not done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| 100 ")]
    assert ["wait_ready" in lines[0][2], "get" in lines[1][2], "status" in lines[2][2]] == [True] * 3
    requests = [int(cells[3].replace(",", "")) for cells in lines]
    assert requests[0] < 100 <= min(requests[1:])
    assert "at most 2 requests a tick: " in done.stdout
    assert "under 40 open files: kept" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_triggerers_are_measured() -> None:
    """A line for each plan."""
    done = run("benchmarks.triggerers", "--quick")
    lines = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line] for line in lines if not line[0].strip().startswith("p")]
    assert [(row[0], row[1]) for row in rows] == [("1", "20"), ("2", "40"), ("2", "40")]
    assert min(float(row[4]) for row in rows) > 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_processes_under_a_rate_limit_are_measured() -> None:
    """A line for one process and one for two; every pod is seen."""
    done = run("benchmarks.rate_limit", "--quick")
    lines = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [line[0].strip() for line in lines] == ["processes", "1", "2"]


def check_figures(row: dict[str, Any]) -> None:
    """All that was measured is a number, and times and ratios are above nothing."""
    for part in ("ours", "other", "ratio"):
        figures = row.get(part)
        if figures is not None:
            assert all(math.isfinite(figure) for figure in figures.values()), row
            assert figures["q1"] <= figures["median"] <= figures["q3"], row
            # An exponent of small numbers can be anything, and a process need not grow by what is small.
            may_be_anything = row["key"].startswith(("growth ", "memory watched resident"))
            assert figures["median"] > 0 or may_be_anything, row


def test_the_pods_that_are_measured_look_like_the_emulator_s() -> None:
    """Field by field: what is fast on rows that no server sends would prove nothing."""
    with Emulator(pods=200, seed=3, boot_seconds=0) as emu:
        caller = Caller(emu)
        listed = caller.get(PODS, ("limit", "200"))["data"]
        emu_statuses = caller.status(*[pod["id"] for pod in listed[:100]])
    pods, statuses = zip(*(rows(number) for number in range(200)), strict=True)
    for ours, theirs in ((pods, listed), (statuses, emu_statuses)):
        assert fields(ours).keys() == fields(theirs).keys()
        for path, types in fields(theirs).items():
            assert fields(ours)[path] >= types, path


def fields(value: Any) -> dict[str, set[str]]:
    """The types found at each path, null left out; those of a list's items at one path."""
    found: dict[str, set[str]] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                found.setdefault(f"{path}.{key}", set())
                walk(f"{path}.{key}", inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                walk(path, inner)
        elif value is not None:
            found[path].add(type(value).__name__)

    walk("", value)
    return found
