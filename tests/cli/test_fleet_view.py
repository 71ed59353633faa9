"""What `primepods watch` draws: figures, a bar of conditions, as many pods as there is room for."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from primepods import Pod, PodChange, PodState, PodStatus
from primepods.cli.pods._fleet_view import render_fleet
from primepods.fleet import Fleet
from tests.fleet.changes import ROWS, change

NOW = datetime.now(UTC)


def a_pod(pod_id: str, name: str = "") -> Pod:
    """A pod as the list has it, three days old."""
    created = NOW - timedelta(days=3, minutes=30)
    return Pod(
        id=pod_id,
        name=name,
        gpu_name="H100_80GB",
        gpu_count=8,
        price_hr=2.0,
        provider_type="x",
        created_at=created,
    )


def a_fleet() -> Fleet:
    """Pods of all kinds."""
    fleet = Fleet(
        [a_pod("0123456789abcdef0123456789abcdef", "train-large-batches-on-everything")], now=lambda: NOW
    )
    fleet.expect([a_pod(word, f"train-{word}") for word in ROWS])
    fleet.expect(["unseen"])
    for word in ROWS:
        fleet.add(change(word, word))
    row = PodStatus(pod_id="", status=PodState.ACTIVE, installation_progress=62, cost_per_hr=9.5)
    fleet.add(PodChange(pod_id="0123456789abcdef0123456789abcdef", before=None, after=row))
    bad = PodStatus(
        pod_id="failed", status=PodState.ERROR, installation_failure="no space left", cost_per_hr=1
    )
    fleet.add(PodChange(pod_id="failed", before=None, after=bad))
    fleet.add(change("was", "gone"))
    return fleet


def plain(width: int, height: int = 24) -> Console:
    """A screen without colours."""
    return Console(width=width, height=height, no_color=True)


def test_80_columns() -> None:
    """Id, name, state, GPU, price and progress have room, the age has not; the bar is letters."""
    shown = render_fleet(a_fleet(), plain(80), ["something is wrong"])
    assert (
        shown
        == """\
9 pods   $22.50 an hour   $1,703.75 so far
1 failed   2 installing   1 pending   1 unknown   1 deleting   1 stopped
1 ready   1 gone   1 not seen
ffffffffffiiiiiiiiiiiiiiiiiiiippppppppppuuuuuuuuuuddddddddddssssssssssrrrrrrrrrr

ID        NAME               STATE       GPU            PRICE/H  PROGRESS
failed    train-failed       failed      8 x H100_80GB    $1.00  no space left
installi  train-installing   installing  8 x H100_80GB    $2.00
01234567  train-large-batc…  installing  8 x H100_80GB    $9.50  ██████░░░░ 62 %
pending   train-pending      pending     8 x H100_80GB    $2.00
unseen    unseen             not seen
unknown   train-unknown      unknown     8 x H100_80GB    $2.00
deleting  train-deleting     deleting    8 x H100_80GB    $2.00
stopped   train-stopped      stopped     8 x H100_80GB    $2.00
ready     train-ready        ready       8 x H100_80GB    $2.00
was       was                gone
something is wrong"""
    )


@pytest.mark.parametrize(("total", "rows"), [(3, 3), (17, 17), (18, 18), (19, 17), (1_000, 17)])
def test_as_many_pods_as_there_is_room_for(total: int, rows: int) -> None:
    """The last line says how many there are besides; nothing is wasted when all fit."""
    fleet = Fleet()
    for number in range(total):
        fleet.add(change(f"pod{number}", "ready"))
    lines = render_fleet(fleet, plain(80, 23)).splitlines()
    assert sum(line.startswith("pod") for line in lines) == rows
    assert (f"and {total - rows:,} more" in lines) == (rows < total)
    assert len(lines) <= 23


@given(st.integers(52, 250), st.integers(1, 60), st.lists(st.text(max_size=300), max_size=2))
def test_nothing_leaves_the_screen(width: int, height: int, notes: list[str]) -> None:
    """Whatever its size, and whatever is said at the end."""
    lines = render_fleet(a_fleet(), plain(width, height), notes).split("\n")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


@given(st.dictionaries(st.sampled_from(list(ROWS)), st.sampled_from([1, 2, 60]), min_size=1))
def test_each_condition_has_its_share_of_the_bar(counts: dict[str, int]) -> None:
    """A single failed pod among many is seen; together they fill the line."""
    fleet = Fleet()
    for word, number in counts.items():
        for index in range(number):
            fleet.add(change(f"{word}{index}", word))
    bar = next(
        line for line in render_fleet(fleet, plain(80)).splitlines() if re.fullmatch(r"[a-z]{80}", line)
    )
    assert set(bar) == {word[0] for word in counts}


def test_colours() -> None:
    """With colours the bar is of blocks, failures are red; what the server says cannot steer the terminal."""
    fleet = a_fleet()
    evil = PodStatus(pod_id="x", status=PodState.ERROR, installation_failure="\x1b[2J" * 3)
    fleet.add(PodChange(pod_id="x\x1b[2J", before=None, after=evil))
    shown = render_fleet(fleet, Console(width=120, height=30, no_color=False))
    assert "\x1b[31m" in shown
    assert "█" in shown
    assert "\x1b[2J" not in shown


def test_an_empty_account() -> None:
    """No bar and no table of nothing; that there is nothing is said when the list was read."""
    fleet = Fleet()
    assert render_fleet(fleet, plain(80)).split("\n")[0] == "reading the list of pods"
    fleet.listed = True
    assert render_fleet(fleet, plain(80)).rstrip() == "0 pods   $0.00 an hour   $0.00 so far"
