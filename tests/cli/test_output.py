"""Forms of output: columns, limits, ids, money, and names that would steer a terminal or a spreadsheet."""

import csv
import io
import json
import os
import pty
import sys

import pytest

from primepods.cli._shared.stderr import background_stderr
from primepods.cli._shared.table import print_info, write_ids
from primepods.emulator import Emulator
from tests.cli.conftest import Run, in_terminal, set_size

LONG = "3fa2b1c4" * 4
STATES = ("train-large-batches-on-everything", "PROVISIONING", "$12.50")


@pytest.fixture
def fleet(emulator: Emulator) -> Emulator:
    """Pods with ids, names and states as long as they get; one is ready, one is not."""
    emulator.add_pod(
        STATES[0], id=LONG, gpu_name="RTX4090_24GB", gpu_count=16, price_hr=12.5, boot_seconds=1e6
    )
    emulator.add_pod("other", id="9f3d2f7a" * 4, boot_seconds=0)
    return emulator


def test_columns(fleet: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of the table, or fields of the other forms, in the order given; a wrong one asks nothing."""
    assert run("list", "--columns", "name,price", "--limit", "1").stdout.splitlines()[0].split() == [
        "NAME",
        "PRICE/H",
    ]
    assert json.loads(run("list", "--columns", "name,id", "--limit", "1", "-o", "json").stdout) == [
        {"name": "train-0", "id": "pod0"}
    ]
    for name in ("price", "PRICE/H", "price_hr"):
        shown = run("list", "--columns", name, "--limit", "1").stdout.split()
        assert (shown[0], shown[1]) == ("PRICE/H", "$2.50")
        assert run("list", "--columns", name, "--limit", "1", "-o", "csv").stdout == "price_hr\n2.5\n"
    assert run("status", "pod0", "--columns", "price", "-o", "csv").stdout == "cost_per_hr\n2.5\n"
    assert run("history", "--columns", "id,name", "-o", "csv").stdout == "id,name\n"
    assert "SSH" in in_terminal(monkeypatch, "list", "--columns", "id,ssh", columns=40)[1]
    fleet.requests.clear()
    for command in ("list", "offers", "history"):
        result = run(command, "--columns", "id,nope")
        assert (result.exit_code, len(fleet.requests)) == (2, 0)
        assert "'nope'" in result.stderr
        assert "id" in result.stderr


def test_limits(fleet: Emulator, run: Run) -> None:
    """The first of the order; how many are left out is told."""
    result = run("list", "--limit", "2", "--sort", "name", "-q")
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == "3 more pods not shown, because of --limit.\n"
    assert len(run("offers", "-L", "3", "--quiet").stdout.splitlines()) == 3
    assert run("list", "--limit", "9").stderr == ""


def test_ids_on_a_terminal(fleet: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as is unique among all pods; whole on demand, in a pipe, and in all forms for programs."""
    fleet.add_pod("near", id="3fa2b1c4" + "0" * 24, boot_seconds=0)
    longest = fleet.add_pod("long", id="x" * 300)
    assert longest in in_terminal(monkeypatch, "list", "-q")[1]
    assert "3fa2b1c43 " in in_terminal(monkeypatch, "list", "--name", STATES[0])[1]
    for shown in (
        in_terminal(monkeypatch, "list", "--full-ids")[1],
        in_terminal(monkeypatch, "list", "-q")[1],
        in_terminal(monkeypatch, "list", "-o", "csv")[1],
        run("list").stdout,
    ):
        assert LONG in shown


def test_names_that_steer(emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control codes reach no terminal, a file has them as they are; no cell of CSV is a formula."""
    names = ["=HYPERLINK(0)", "@x", "\x1b]0;owned\x07", "a-b", "-1"]
    for name in names:
        emulator.add_pod(name, id=f"id\x1b[2J{name[-1]}")
    for arguments in (["-o", "csv"], ["-o", "json"], ["--ids"], []):
        shown = in_terminal(monkeypatch, "list", *arguments)[1]
        assert "\x1b]" not in shown
        assert "\x1b[2J" not in shown
    rows = list(csv.DictReader(io.StringIO(run("list", "-o", "csv").stdout)))
    assert {row["name"] for row in rows[3:]} == {"'=HYPERLINK(0)", "'@x", "\x1b]0;owned\x07", "a-b", "'-1"}
    assert {pod["name"] for pod in json.loads(run("list", "-o", "json").stdout)[3:]} == set(names)


def test_a_long_value_is_whole(emulator: Emulator, run: Run) -> None:
    """`get` shows all of a field, in a pipe and in JSON; a table cuts it."""
    emulator.add_pod("n" * 300, id="long")
    for arguments in (["get", "long"], ["get", "long", "-o", "json"]):
        assert "n" * 300 in run(*arguments).stdout
    assert "n" * 201 not in run("list").stdout


@pytest.mark.parametrize("command", ["get", "status", "wait"])
def test_columns_and_ids_of_named_pods(fleet: Emulator, run: Run, command: str) -> None:
    """The same options as those of the lists, also for one pod."""
    assert run(command, "train-0", "-q").stdout == "pod0\n"
    assert run(command, "train-0", "--columns", "status", "--json").stdout == '[\n  {"status": "ACTIVE"}\n]\n'
    assert run(command, "train-0", "--columns", "nope").exit_code == 2


def test_what_is_said_first_is_shown_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages and results that go to the same place keep their order."""
    ours, theirs = os.pipe()
    with (
        os.fdopen(theirs, "w", encoding="utf-8") as out,
        os.fdopen(os.dup(theirs), "w", encoding="utf-8") as err,
    ):
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with background_stderr():
            for number in range(0, 200, 2):
                print_info(str(number))
                write_ids([str(number + 1)])
    with os.fdopen(ours, encoding="utf-8") as shown:
        assert [int(line) for line in shown] == list(range(200))


def test_a_line_ends_between_words_and_not_within_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal, in which a command is copied as one line."""
    ours, theirs = pty.openpty()
    set_size(ours, 20)
    with os.fdopen(theirs, "w", encoding="utf-8") as err:
        monkeypatch.setattr(sys, "stderr", err)
        print_info("Exit code 0 after 3s. No pod is left.")
        shown = os.read(ours, 1 << 16)
        print_info("To fetch it, use `primepods cp run:out .` by hand.")
        shown += os.read(ours, 1 << 16)
    os.close(ours)
    assert shown.decode().splitlines() == [
        "Exit code 0 after",
        "3s. No pod is left.",
        "To fetch it, use",
        "`primepods cp run:out .`",
        "by hand.",
    ]
