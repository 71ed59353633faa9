"""`primepods wait`: progress on stderr, the pods on stdout, and what the exit code says."""

import json

import pytest

import primepods
from primepods.emulator import Emulator
from tests.cli.conftest import Result, Run, in_terminal


def ids(result: Result) -> list[str]:
    """The pods of the rows on stdout."""
    return [row["pod_id"] for row in json.loads(result.stdout)]


def test_ready_pods_are_printed(emulator: Emulator, run: Run) -> None:
    """As statuses, in the order asked; ids come from stdin, too; progress is elsewhere."""
    emulator.add_pod(id="late", boot_seconds=0.3)
    result = run("wait", "-", "pod0", "--interval", "0.1s", "-o", "json", stdin="late pod1\n")
    assert (result.exit_code, ids(result)) == (0, ["late", "pod1", "pod0"])
    assert all(row["is_ready"] for row in json.loads(result.stdout))
    assert "waiting until ready: 3 of 3 (3 ready, " in result.stderr


def test_narrow_table_says_how_to_log_in(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on 80 columns, with an id as long as real ones."""
    pod_id = emulator.add_pod(id="c0ffee" * 5 + "00", boot_seconds=0)
    code, shown = in_terminal(monkeypatch, "wait", pod_id)
    assert code == 0
    assert "ssh -p " in shown


def test_a_failed_pod_is_exit_4(emulator: Emulator, run: Run) -> None:
    """It ends the wait with its reason; what is ready by then is printed."""
    emulator.add_pod(id="bad", failure="no space left", boot_seconds=0.2)
    result = run("wait", "pod0", "bad", "--interval", "0.1s", "-o", "json")
    assert (result.exit_code, ids(result)) == (4, ["pod0"])
    assert "primepods wait: Pod bad has failed: status ERROR: no space left" in result.stderr


def test_settled_waits_for_all_and_is_exit_4_if_one_failed(emulator: Emulator, run: Run) -> None:
    """Every pod is printed and every failure told; `failed` is what was wanted, and no failure."""
    emulator.add_pod(id="bad", failure="no space left", boot_seconds=0.1)
    emulator.add_pod(id="late", boot_seconds=0.4)
    options = ("--interval", "0.1s", "-o", "json")
    result = run("wait", "bad", "late", "--until", "settled", *options)
    assert (result.exit_code, ids(result)) == (4, ["bad", "late"])
    assert result.stderr.splitlines()[-1] == "primepods wait: bad: status ERROR: no space left"
    assert run("wait", "bad", "--until", "failed", *options).exit_code == 0


def test_time_that_runs_out_is_exit_3(emulator: Emulator, run: Run) -> None:
    """The rest is named, with what it costs; what is ready is printed."""
    emulator.add_pod(id="slow", boot_seconds=1000, price_hr=2.5)
    result = run("wait", "slow", "pod0", "--timeout", "3s", "--interval", "0.1s", "-o", "json")
    assert (result.exit_code, ids(result)) == (3, ["pod0"])
    assert "1 of 2 pods are still pending: slow (PROVISIONING" in result.stderr
    assert "2.50 an hour" in result.stderr


def test_gone(emulator: Emulator, run: Run) -> None:
    """Of pods that are gone there is nothing to print; one that was never there is gone."""
    with primepods.Client() as client:
        client.pods.delete("pod0")
    result = run("wait", "pod0", "nope", "--until", "gone", "--interval", "0.1s", "-o", "jsonl")
    assert (result.exit_code, result.stdout) == (0, "")


def test_bar_in_a_terminal(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn in place, and stays above the table."""
    monkeypatch.setenv("TERM", "xterm-256color")
    code, shown = in_terminal(monkeypatch, "wait", "pod0", "pod1", columns=200)
    assert code == 0
    assert "2/2" in shown
    assert "2 ready, $5.00 an hour" in shown
    assert shown.rindex("pod1  ") > shown.rindex("2/2")
