"""`primepods run --each`: many items on a few pods, attached, detached, stopped and taken over."""

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from primepods.emulator import Emulator
from primepods.runs._items import fill_command
from tests.support.eventually import wait_for
from tests.support.processes import Process, start_command

from .conftest import Run, in_terminal, name_api
from .test_run import LOCAL_SSH, OPTIONS, here, market
from .test_runs import BOUNDED, go, kill_process, no_process_is_left, records, row

__all__ = ["here", "market", "no_process_is_left"]


def each(*items: Any) -> list[str]:
    """The options for a file with these items."""
    Path("items").write_text("\n".join(map(str, items)) + "\n\n", encoding="utf-8")
    return ["--each", "items", "--pods", "3"]


def orders(market: Emulator) -> int:
    """How many pods were ordered."""
    return len(market.requests.where(method="POST", path="/api/v1/pods/"))


def test_twelve_items_on_three_pods(market: Emulator, run: Run) -> None:
    """Each has its lines and its results; a failure is the exit code, and no pod is left."""
    Path("data").mkdir()
    Path("results").mkdir()
    Path("results/12").touch()  # its results cannot be written
    Path("data/said").write_text("from here", encoding="utf-8")
    line = "echo {} $PRIMEPODS_ITEM $(cat said) | tee out; echo oh >&2; [ {} != 'item 7' ]"
    words = ["--upload", "data:work", "--download", "out:results", "--name", "sweep"]
    items = each(*(f"item {number}" for number in range(1, 13)))
    result = run("run", *OPTIONS, *items, *words, "--", line)
    assert result.exit_code == 1, result.stderr
    said = {f"[{number}] item {number} {number} from here" for number in range(1, 13)}
    assert set(result.stdout.splitlines()) == said, result.output
    assert {f"[{number}] oh" for number in range(1, 13)} <= set(result.stderr.splitlines())
    assert re.search(r"^\[12\] .*results/12", result.stderr, re.MULTILINE), result.stderr
    for number in range(1, 12):
        assert Path(f"results/{number}/out").read_text(encoding="utf-8").startswith(f"item {number} ")
    assert "Renting up to 3 pods of 1 x H100" in result.stderr
    assert result.stderr.count("\n✓ Ready · 1 x H100_80GB · hyperstack · $1.63/h · ") == 3
    assert re.search(r"^\[7\] Exit code 1 after \d+s; ", result.stderr, re.MULTILINE)
    verdict = r"\nsweep-\w{10}: exit code 1\. Of 12 items, 10 succeeded, 2 failed \(7, 12\)\. Results in "
    assert re.search(verdict + r"results/ITEM\. Cost about \$0\.\d+\. No pod is left\.\n$", result.stderr)
    assert (orders(market), len(market.pods)) == (3, 0)


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("--download out:results", ">>out"),
        ("--upload data:{0}/up --download out:results", ">out; cat kept"),
        ("--download {0}/out:results", ">{0}/out"),
        ("--download {0}:results", ">{0}/out"),
        ("--upload data:work --download out:results", ">>out; cat kept"),
        ("--upload data:work --download ~/work:results", ">out; cat kept"),
    ],
)
def test_an_item_never_gets_the_results_of_another(
    market: Emulator, run: Run, words: str, target: str
) -> None:
    """The second item on the pod writes nothing, and fails; what was uploaded stays for all."""
    for folder in ("data", "shared"):
        Path(folder).mkdir()
        Path(folder, "kept").touch()
    shared = Path("shared").absolute()
    line = f"[ {{}} = b ] || echo {{}} {target.format(shared)}"
    result = run("run", *OPTIONS, *each(*"abc"), "--pods", "1", *words.format(shared).split(), "--", line)
    assert result.exit_code == 1, result.output
    files = [path for path in Path("results").rglob("*") if path.is_file()]
    assert {str(path): path.read_text() for path in files} == {
        "results/1/out": "a\n",
        "results/3/out": "c\n",
    }
    assert "Of 3 items, 2 succeeded, 1 failed (2)." in result.stderr


@pytest.mark.parametrize(
    ("command", "item", "filled"),
    [
        (["train", "--lr={}", "{{}}"], "a b", ["train", "--lr=a b", "{}"]),
        ("train {} ${HOME} {{lr}}", "it's", "train 'it'\"'\"'s' ${HOME} {lr}"),
        ("train {} {1..3} {a,b} '{ print }'", '"two words"', "train 'two words' {1..3} {a,b} '{ print }'"),
        (["{lr} {tags}", "{}"], '{"lr": 0.1, "tags": [1]}', ["0.1 [1]", '{"lr": 0.1, "tags": [1]}']),
        (["{}"], "007", ["007"]),
        (
            ["{a} {b}", "{c}"],
            ' {"a" :1.10\t, "b": 1e3, "c":\t[1.10, {"b": "é"}]} ',
            ["1.10 1e3", '[1.10, {"b": "é"}]'],
        ),
        (["{a} {b} {c}"], f'{{"a": {"7" * 5000}, "b": "\\u00e9\\"", "c": null}}', [f'{"7" * 5000} é" null']),
    ],
)
def test_an_item_is_put_into_the_command(command: Any, item: str, filled: Any) -> None:
    """Whole into words, and quoted into a line for the shell; other braces stay."""
    assert fill_command(command, item) == filled


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--pods", "2"], "--each FILE and --pods N need each other"),
        (["--each", "full"], "--each FILE and --pods N need each other"),
        (["--each", "empty", "--pods", "2"], "--each has no items: write one a line"),
        (["--each", "none", "--pods", "2"], "--each none cannot be read: No such file"),
        (["--each", "full", "--pods", "2", "--keep"], "--keep and --each cannot be combined"),
        (["--each", "full", "--pods", "2", "--hold", "1m"], "--hold and --each cannot be combined"),
        (["--each", "lacking", "--pods", "2"], "item 2 of --each: it has no field 'lr', which the command"),
        (["--each", "cut", "--pods", "2"], "item 2 of --each: it is not JSON, so it has no field 'lr'"),
        (["--each", "full", "--pods", "2", "--download", "a:full"], "--download a:"),
    ],
)
def test_what_cannot_be_is_refused_before_a_request(
    market: Emulator, run: Run, words: list[str], problem: str
) -> None:
    """With exit code 2 and a sentence; no run is left either."""
    Path("empty").write_text("\n \n", encoding="utf-8")
    Path("full").write_text('{"lr": 1}\n', encoding="utf-8")
    Path("cut").write_text('{"lr": 1}\n{"lr": 2\n', encoding="utf-8")
    Path("lacking").write_text('{"lr": 1}\n{"l": 2}\n', encoding="utf-8")
    result = run("run", *OPTIONS, *words, "--", "train", "{lr}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr, result.stderr
    assert len(market.requests) == 0
    assert json.loads(run("runs", "--output", "json").stdout) == []


def test_a_bar_in_a_terminal(market: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how many are done, failed, running and booting, and the cost; lines of output stay whole."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    words = [*each(0.1, 1.1), "--", "echo {}; sleep {}; [ {} = 1.1 ]"]
    code, shown = in_terminal(monkeypatch, "run", *OPTIONS, *words, columns=120)
    assert code == 1
    assert re.search(r"━{10}─{10} 1 of 2 done, 1 failed, \$[\d.]+, 1 running", shown), shown
    assert re.search(r"0 of 2 done, \$[\d.]+, 2 booting, 0 running", shown), shown
    lines = {re.split(r"\x1b\[2K", line)[-1] for line in shown.split("\n")}
    assert {"[1] 0.1", "[2] 1.1"} <= lines, shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line", "said"),
    [
        (["--gpu-count", "16"], "echo $NODE_RANK $NNODES", {"[{}] 0: 0 2", "[{}] 1: 1 2"}),
        (["--disk", "data"], "basename $PRIMEPODS_DISK_DATA", {"[{}] {disk}"}),
        (["--watchdog", "--max-hours", "1"], "ls ~/.primepods/watchdog/*/on | wc -l", {"[{}] 1"}),
    ],
)
def test_what_a_pod_can_have(
    market: Emulator,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    *,
    line: str,
    said: set[str],
) -> None:
    """Each item runs on all nodes of a cluster, finds the disk, and has a pod with its watchdog."""
    run("disks", "create", "--size", "500", "--provider", "hyperstack", "--name", "data", "--yes")
    [disk] = json.loads(run("disks", "--output", "json").stdout)
    monkeypatch.setenv(
        "PRIMEPODS_WATCHDOG_KEY", market.add_api_key({"instances": {"read": True, "write": True}})
    )
    ssh = ["--ssh-command", f"{LOCAL_SSH} --emulator {market.url}"]
    result = run("run", *OPTIONS, *ssh, *each(*range(1, 5)), *words, "--", line)
    assert result.exit_code == 0, result.stderr
    wanted = {text.format(number, disk=disk["id"]) for text in said for number in range(1, 5)}
    assert (set(result.stdout.splitlines()), market.pods) == (wanted, {}), result.stderr


@pytest.mark.slow
def test_an_item_whose_watchdog_may_have_deleted_its_pod_does_not_begin_again(
    market: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --idle, a command that hangs would cost a pod after the other."""
    key = market.add_api_key({"instances": {"read": True, "write": True}})
    monkeypatch.setenv("PRIMEPODS_WATCHDOG_KEY", key)
    words = ["--ssh-command", f"{LOCAL_SSH} --emulator {market.url}", "--watchdog", "--idle", "1h"]
    process = start_command("run", *BOUNDED, *words, *each("x"), "--", "echo begun; sleep 60")
    assert process.line() == "[1] begun"
    market.delete_pod(next(iter(market.pods)))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, orders(market), market.pods) == (1, "", 1, {}), err
    assert "it is gone, deleted by its watchdog (3600 s after its last job or no GPU was above " in err
    assert "[1] Exit code 4 after " in err


@pytest.mark.slow
def test_the_item_of_a_lost_pod_is_done_on_another(market: Emulator, run: Run, tmp_path: Path) -> None:
    """Whoever deletes the pod: the item begins again, and its command is told so. Ctrl-C then ends all."""
    words = ["--each", "items", "--pods", "1", "--interval", "0.1s"]
    Path("items").write_text("x\n", encoding="utf-8")
    line = "echo begun $PRIMEPODS_RESTART; until [ -e ~/go ]; do sleep 0.1; done"
    process = start_command("run", *OPTIONS, *words, "--", line)
    assert process.line() == "[1] begun"
    market.delete_pod(next(iter(market.pods)))
    assert process.line() == "[1] begun 1"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert re.search(r": Pod run-\S+ was lost while it worked on an item: it is gone\.", err), err
    assert "[1] Restart 1 of 1, on another pod\n" in err
    assert "[1] Ending the run, since it was stopped. The command gets SIGTERM and up to 2m 30s to end" in err
    assert err.endswith(" No pod is left.\n")
    assert (orders(market), len(market.pods)) == (2, 0)
    assert records(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("pods", "code"), [(1, 1), (2, 0)])
def test_a_pod_to_which_nothing_can_be_uploaded_ends(
    market: Emulator, tmp_path: Path, pods: int, code: int
) -> None:
    """It replaces a lost one: another pod does the item, or the run ends with the error if none is left."""
    Path("data").mkdir()
    words = [*each("x", "y"), "--pods", str(pods), "--upload", "data:work"]
    process = start_command(
        "run", *OPTIONS, *words, "--", "echo begun {}; until [ -e ~/go ]; do sleep .1; done"
    )
    wait_for(lambda: len(begun(tmp_path)) == pods)
    Path("data").rmdir()
    market.delete_pod(next(iter(market.pods)))
    assert any("No such file or directory: " in line for line in process.stderr)
    go(tmp_path)
    _, err = process.communicate(timeout=60)
    assert err.endswith(" No pod is left.\n")
    assert (process.returncode, orders(market), market.pods) == (code, pods + 1, {}), err


WAITING = (
    "trap 'echo saved >out; exit 3' TERM; echo begun {}; [ {} = 1 ] || until [ -e ~/go ]; do sleep .1; done; "
    "echo {} | tee out; exit {}"
)
EARLY = "3 ended early with results (2-4), 1 without a result (5)"


def live(tmp_path: Path, *words: str) -> tuple[Process, str]:
    """Begin a run of five items, of which the first ends; return it and its name when three others run."""
    words = ("--download", "out:results/", *each(*range(1, 6)), *words)
    process = start_command("run", *BOUNDED, *words, "--", WAITING)
    found = tmp_path / "state" / "runs"
    wait_for(lambda: any(found.glob("*/results")) and len(begun(tmp_path)) >= 4)
    [record] = found.glob("*/run.json")
    return process, record.parent.name


def begun(tmp_path: Path) -> list[str]:
    """The items whose commands have begun, as often as they did."""
    logs = (tmp_path / "pods").glob("*/*/.primepods/jobs/*/stdout")
    return [line[6:] for log in logs for line in log.read_text().splitlines() if "begun" in line]


@pytest.mark.slow
@pytest.mark.parametrize("detach", [["-d"], []])
def test_items_without_a_result_begin_again(
    market: Emulator, run: Run, tmp_path: Path, detach: list[str]
) -> None:
    """The process is killed and another one takes over: it deletes the pods, and does what is left."""
    process, name = live(tmp_path, *detach)
    old = set(market.pods)
    shown = row(run)
    assert (shown["state"], shown["pod"], set(shown["pods"]), len(old)) == ("running", None, old, 3)
    assert (shown["done"], shown["items"]) == (1, 5)
    assert re.search(r"  running 1/5 .*  3 pods  ", run("runs", "--output", "table").stdout)
    kill_process(run, tmp_path)
    process.communicate(timeout=60)
    spent = row(run)["spent"]
    reader = start_command("attach", name)
    wait_for(lambda: all(begun(tmp_path).count(item) == 2 for item in "234"))
    assert not old & set(market.pods)
    go(tmp_path)
    out, err = reader.communicate(timeout=60)
    assert reader.returncode == 1, err
    assert (out.count("[1] begun 1\n"), out.count("[5] begun 5\n")) == (bool(detach), 1)
    assert begun(tmp_path).count("1") == 1
    assert "Of 5 items, 5 failed (1-5). Results in results/ITEM." in err
    assert {path.parent.name for path in Path("results").glob("*/out")} == set("12345")
    assert (row(run)["state"], row(run)["exit_code"], set(market.pods)) == ("ended", 1, set())
    assert row(run)["spent"] > spent > 0


@pytest.mark.slow
@pytest.mark.parametrize("now", [[], ["--now"]])
@pytest.mark.parametrize("has_died", [False, True])
def test_stop_ends_all_items(
    market: Emulator, run: Run, tmp_path: Path, *, has_died: bool, now: list[str]
) -> None:
    """They get SIGTERM, what they have is fetched, and no pod is left; with --now, at once."""
    process, name = live(tmp_path, "-d")
    process.communicate(timeout=60)
    if has_died:
        output = tmp_path / "state" / "runs" / name / "stdout"
        wait_for(lambda: output.read_text().count("begun") == 4)
        kill_process(run, tmp_path)
        # The jobs of a pod may be out of order, such as those that began in the same second.
        [started] = (tmp_path / "pods").glob("*/*/.primepods/jobs/*-1-0/started")
        pid, second = started.read_text().split()
        started.write_text(f"{pid} {int(second) + 60}\n")
    stopped = run("stop", name, *now)
    assert stopped.exit_code == 0, stopped.stderr
    assert "begun" not in stopped.stdout
    others = "4 without a result (2-5)" if now else EARLY
    assert f"{name}: it was stopped, exit code 130. Of 5 items, 1 failed (1), {others}. " in stopped.stderr
    fetched = {path.parent.name: path.read_text() for path in Path("results").glob("*/out")}
    assert fetched == {"1": "1\n"} | ({} if now else dict.fromkeys("234", "saved\n"))
    assert stopped.stderr.endswith(" No pod is left.\n")
    assert (orders(market), len(market.pods)) == (3, 0)
    assert (row(run)["state"], row(run)["exit_code"]) == ("ended", 130)


@pytest.mark.slow
def test_stop_of_a_dead_run_waits_for_no_pod_that_boots(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has started it is told that its pods may be billed, and `stop` deletes them at once."""
    with Emulator(boot_seconds=600, delete_seconds=0) as emulator:
        name_api(emulator, monkeypatch)
        process = start_command("run", "-d", *BOUNDED, *each("x", "y"), "--", "true")
        wait_for(lambda: len(emulator.pods) == 2)
        os.kill(records(tmp_path)[0]["pid"], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, "has died, and its pods may be billed" in err) == (1, True), err
        stopped = run("stop", row(run)["name"])
        assert (stopped.exit_code, emulator.pods) == (0, {}), stopped.stderr


@pytest.mark.slow
def test_before_a_limit_the_items_at_work_are_saved(market: Emulator, run: Run, tmp_path: Path) -> None:
    """The limit is that of the whole run: its dead process has used most of it."""
    process, name = live(tmp_path, "-d")
    kill_process(run, tmp_path)
    process.communicate(timeout=60)
    record = tmp_path / "state" / "runs" / name / "run.json"
    aged = records(tmp_path)[0] | {"began_at": time.time() - 3600 + 310}
    record.write_text(json.dumps(aged), encoding="utf-8")
    taken = run("attach", name)
    assert taken.exit_code == 5, taken.output
    assert f"{name}: its limit was near, exit code 5. Of 5 items, 1 failed (1), {EARLY}. " in taken.stderr
    assert {path.read_text() for path in Path("results").glob("[234]/out")} == {"saved\n"}
    assert (orders(market), len(market.pods)) == (6, 0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_here_ends_no_item(market: Emulator, tmp_path: Path) -> None:
    """The record cannot be written: that is told, each item ends, and no pod is left."""
    process, name = live(tmp_path)
    folder = tmp_path / "state" / "runs" / name
    (folder / "results").unlink()
    for file in (f"run.{process.pid}", "results"):
        (folder / file).symlink_to("/dev/full")
    go(tmp_path)
    out, err = process.communicate(timeout=60)
    assert {f"{item}\n" in out for item in ("[2] 2", "[3] 3", "[4] 4", "[5] 5")} == {True}, err
    assert err.count(f"The record {folder} cannot be written (No space left on device)") == 2, err
    assert "Of 5 items, 5 failed (1-5). Results in results/ITEM." in err
    assert err.endswith(" No pod is left.\n")
    assert (process.returncode, orders(market), market.pods) == (1, 3, {})
