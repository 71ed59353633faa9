"""`primepods history`: filters, totals, and the spend per day as a picture."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from primepods.emulator import Emulator, ManualClock
from tests.cli.conftest import Run, name_api


@pytest.fixture
def past(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Three hundred things that were rented in December 2025."""
    with Emulator(history=300, clock=ManualClock()) as emulator:
        name_api(emulator, monkeypatch)
        yield emulator


def test_filters(past: Emulator, run: Run) -> None:
    """By kind, name and day; together with a limit, the newest of them."""
    rows = json.loads(run("history", "-o", "json").stdout)
    assert len(rows) == 300

    def ids(*arguments: str) -> list[str]:
        return [row["id"] for row in json.loads(run("history", "-o", "json", *arguments).stdout)]

    disks = [row["id"] for row in rows if row["type"] == "Disk"]
    assert ids("--kind", "disk") == disks
    assert ids("--kind", "Disk", "--kind", "image", "--name", "old-disk-*", "--limit", "2") == disks[:2]
    ended = [row for row in rows if row["terminated_at"]]
    day = ended[len(ended) // 2]["terminated_at"][:10]
    late = ids("--since", day, "--kind", "disk", "--kind", "instance")
    early = ids("--until", day, "--kind", "disk", "--kind", "instance")
    assert sorted(late + early) == sorted(row["id"] for row in rows if row["type"] in {"Disk", "Instance"})
    assert late
    assert early
    assert ids("--since", "7d") == []
    for limit, has_more in ((299, True), (300, False)):
        assert ("Older records are not shown" in run("history", "--limit", str(limit)).stderr) == has_more


def test_chart(past: Emulator, run: Run, tmp_path: Path) -> None:
    """The picture is an SVG document of all records; the data on stdout is as it was."""
    pictures: list[str] = []
    for limit in ("20", "1000"):
        file = tmp_path / f"{limit}.svg"
        result = run("history", "-o", "jsonl", "--limit", limit, "--chart", str(file))
        assert len(result.stdout.splitlines()) == min(int(limit), 300)
        pictures.append(file.read_text(encoding="utf-8"))
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith("<svg ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_chart_that_cannot_be_written(past: Emulator, run: Run, tmp_path: Path) -> None:
    """The line names the file, also where the disk is full; what was read is shown all the same."""
    for file in (str(tmp_path / "no" / "folder.svg"), "/dev/full"):
        result = run("history", "-o", "jsonl", "--limit", "2", "--chart", file)
        assert (result.exit_code, len(result.stdout.splitlines())) == (1, 2)
        assert result.stderr.startswith(f"primepods history: --chart {file}: No ")


def test_a_month_of_bars(past: Emulator, run: Run) -> None:
    """Each day is a line, and the total is that of the rows."""
    shown = run("history", "--kind", "instance").stdout
    rows = json.loads(run("history", "--kind", "instance", "-o", "json").stdout)
    assert f"{sum(row['total_billed_price'] for row in rows):,.2f}" in shown
    bars = shown.partition("Billed per day (UTC)")[2]
    assert 20 < len(bars.splitlines()) < 35
    assert "█" in bars
    assert run("history", "--since", "yesterday").exit_code == 2
