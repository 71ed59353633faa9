"""Runs that outlive their terminals: detached, listed, attached, stopped, taken over, begun anew."""

import asyncio
import errno
import fcntl
import io
import json
import math
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

import primepods
from primepods.emulator import Cut, Delay, Edit, Emulator, Status
from primepods.leasing.ledger import LeaseFile
from primepods.runs import Run as RunFolder
from primepods.runs import RunRecord, follow_job, list_runs
from tests.support.eventually import wait_for
from tests.support.processes import start_command

from .conftest import Run, name_api, run_on
from .test_run import LOCAL_SSH, OPTIONS, here, market

__all__ = ["here", "market"]

BOUNDED = [*OPTIONS, "--max-hours", "1"]
SLOW = "echo begun; until [ -e ~/go ]; do sleep 0.1; done; echo end; echo result >out; exit 3"


def records(tmp_path: Path) -> list[dict[str, Any]]:
    """The records of all runs."""
    paths = (tmp_path / "state" / "runs").glob("*/run.json")
    return [json.loads(text) for path in paths if (text := path.read_text(encoding="utf-8")) != "["]


def row(run: Run) -> dict[str, Any]:
    """The only run, as the command lists it."""
    [found] = json.loads(run("runs", "--output", "json").stdout)
    return dict(found)


def new_record(**fields: Any) -> RunRecord:
    """A record with these fields, and no others that mean something."""
    plain: dict[str, Any] = {name: {} for name in ("client", "find", "changes", "lease")}
    return RunRecord(**{**plain, "command": "", "is_detached": True, "began_at": 0.0, **fields})


def kill_process(run: Run, tmp_path: Path) -> None:
    """Kill the process of the only run, and return when the run is interrupted."""
    os.kill(records(tmp_path)[0]["pid"], signal.SIGKILL)
    wait_for(lambda: row(run)["state"] == "interrupted")


def go(tmp_path: Path) -> None:
    """Let the command on the pod end."""
    for home in (tmp_path / "pods").glob("*/*"):
        (home / "go").touch()


@pytest.fixture(autouse=True)
def no_process_is_left(tmp_path: Path) -> Iterator[None]:
    """What a test has started in the background ends with it, also on the pods."""
    yield
    go(tmp_path)
    for record in records(tmp_path):
        pid = record["pid"]
        if pid and pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_detached_run_goes_on_and_is_found_again(
    market: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a name once its command has started; its results are here, its pod is gone, its output stays.

    Also if the folder in which it was started was deleted meanwhile.
    """
    folder = Path("gone").absolute()
    folder.mkdir()
    monkeypatch.chdir(folder)
    words = ["run", "-d", *BOUNDED, "--name", "train", "--env", "TOKEN=s3cr3t", "--download", "out:results/"]
    started = run(*words, "--", f"echo $TOKEN | wc -c; {SLOW}")
    assert started.exit_code == 0, started.stderr
    monkeypatch.chdir(folder.parent)
    folder.rmdir()
    name = started.stdout.strip()
    assert re.fullmatch(r"train-\w{10}", name)
    assert "✓ Ready in" in started.stderr
    assert f"The command has started. To see its output, run `primepods attach {name}`." in started.stderr
    assert row(run).items() >= {"name": name, "state": "running", "pod": next(iter(market.pods))}.items()
    readers = [start_command("attach", name[:8]) for _ in range(2)]
    go(tmp_path)
    for reader in readers:
        out, err = reader.communicate(timeout=60)
        assert (reader.returncode, out) == (3, "7\nbegun\nend\n"), err
        assert err.endswith(" No pod is left.\n")
    assert not market.pods
    assert (folder / "results/out").read_text(encoding="utf-8") == "result\n"
    again = run("attach", name, "--tail", "1")
    assert (again.exit_code, again.stdout) == (3, "end\n")
    assert "s3cr3t" not in "".join(path.read_text() for path in (tmp_path / "state").rglob("*.json"))
    assert run("runs", "--prune").exit_code == 0
    assert json.loads(run("runs", "--output", "json").stdout) == []


@pytest.mark.slow
@pytest.mark.parametrize("detach", [["-d"], []])
def test_a_run_whose_process_was_killed_is_taken_over(
    market: Emulator, run: Run, tmp_path: Path, detach: list[str]
) -> None:
    """By one of those who attach at once; the command goes on meanwhile, and no line or result of it is lost.

    Also if the uploaded folder was deleted here meanwhile, and if the pod's check would fail now.
    """
    Path("data").mkdir()
    words = ["--upload", "data:work", "--download", "out", "--check", "mkdir checked"]
    process = start_command("run", *detach, *BOUNDED, *words, "--", f"echo x >>~/begun; {SLOW}")
    wait_for(lambda: any(record["job"] for record in records(tmp_path)))
    kill_process(run, tmp_path)
    process.communicate(timeout=60)
    Path("data").rmdir()
    readers = [start_command("attach", row(run)["name"]) for _ in range(2)]
    wait_for(lambda: row(run)["state"] == "running")
    assert not row(run)["exit_code"]
    go(tmp_path)
    for reader in readers:
        out, err = reader.communicate(timeout=60)
        assert (reader.returncode, out) == (3, "begun\nend\n"), err
    assert not market.pods
    [begun] = (tmp_path / "pods").glob("*/*/begun")
    assert begun.read_text() == "x\n"
    assert Path("out").read_text(encoding="utf-8") == "result\n"


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code"), [([], 3), (["--download", "none", "--hold", "0.1s"], 1)])
def test_a_process_that_dies_after_its_command_keeps_the_exit_code(
    market: Emulator, run: Run, tmp_path: Path, words: list[str], code: int
) -> None:
    """It was killed while it deleted the pod, which is gone: who takes over begins nothing anew.

    A missing result has its exit code, too.
    """
    market.faults.add(Delay(600), on="delete", times=1)
    line = f"echo x >>~/begun; exit {0 if words else 3}"
    name = run("run", "-d", *BOUNDED, *words, "--", line).stdout.strip()
    wait_for(lambda: bool(market.requests.where(operation="delete")))
    kill_process(run, tmp_path)
    for pod_id in market.pods:
        market.delete_pod(pod_id)
    assert run("attach", name).exit_code == code
    [begun] = (tmp_path / "pods").glob("*/*/begun")
    assert begun.read_text() == "x\n"


@pytest.mark.parametrize(("keep", "code"), [([], 5), pytest.param(["--keep"], 3, marks=pytest.mark.slow)])
def test_a_used_up_budget_stops_no_take_over(
    market: Emulator, run: Run, tmp_path: Path, keep: list[str], code: int
) -> None:
    """The pod is deleted, and the exit code says why; a pod to keep has no budget, and stays."""
    name = run("run", "-d", *keep, *BOUNDED, "--", SLOW).stdout.strip()
    kill_process(run, tmp_path)
    folder = RunFolder.open(tmp_path / "state" / "runs" / name)
    folder.save(began_at=folder.record.began_at - 7200)
    if keep:
        go(tmp_path)
    result = run("attach", name)
    assert (result.exit_code, len(market.pods)) == (code, len(keep)), result.stderr
    assert row(run)["state"] == "ended"
    assert bool(re.search("still runs and is billed; delete it with", result.stderr)) == bool(keep)
    if keep:
        # As if its last order had been refused, and its process had died then.
        began_at = folder.reload().began_at
        folder.save(exit_code=None, ended_at=None, pod_id=None, job=None, result=None, leased_at=began_at)
        wait_for(lambda: row(run)["state"] == "interrupted")
        assert run("attach", name).exit_code == 5
        assert len(market.requests.where(method="POST")) == 1


@pytest.mark.slow
def test_a_failed_deletion_counts_its_pod_once(market: Emulator, run: Run, tmp_path: Path) -> None:
    """Also if the process dies then, and another one takes over and deletes the pod; as an earlier pod."""
    market.faults.add(Edit(put={"data.0.status": "ERROR"}), on="status", times=1)
    name = run("run", "-d", *OPTIONS, "--max-hours", "9", "--", SLOW).stdout.strip()
    assert records(tmp_path)[0]["spent"] > 0.0
    kill_process(run, tmp_path)
    folder = RunFolder.open(tmp_path / "state" / "runs" / name)
    hour_ago, lease = (folder.record.leased_at or 0.0) - 3600, folder.record.lease | {"release_timeout": 0.5}
    folder.save(leased_at=hour_ago, began_at=hour_ago, lease=lease, price_hr=0.0)  # as before it is ready
    assert row(run)["spent"] > 1.0  # at the price in the lease's file
    file = LeaseFile.claim(tmp_path / "state" / str(folder.record.lease_file))
    assert file is not None
    file.update(ordered_at=file.record.ordered_at - timedelta(hours=1))
    file.close()
    market.faults.add(Status(503), on="delete")
    stopped = run("stop", name)
    assert (stopped.exit_code, "may still be billed" in stopped.stderr) == (1, True)
    assert not folder.reload().is_released
    folder.save(ended_at=hour_ago)
    assert folder.cost() == pytest.approx(file.record.price_hr, rel=0.1)  # the pod is billed on
    market.faults.clear()
    folder.save(exit_code=None, ended_at=None, lease=lease | {"release_timeout": 60.0})
    wait_for(lambda: row(run)["state"] == "interrupted")
    assert run("stop", name).exit_code == 0
    assert folder.reload().spent == pytest.approx(folder.record.price_hr, rel=0.1)
    assert not market.pods


@pytest.mark.slow
def test_a_take_over_without_ssh(market: Emulator, run: Run, tmp_path: Path) -> None:
    """It is not installed any more: `attach` leaves the pod with its results, and `stop` deletes the pod."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {LOCAL_SSH} "$@"\n', encoding="utf-8")
    ssh.chmod(0o755)
    name = run("run", "-d", *BOUNDED, "--ssh-command", shlex.quote(str(ssh)), "--", SLOW).stdout.strip()
    kill_process(run, tmp_path)
    ssh.unlink()
    attached = run("attach", name)
    assert (attached.exit_code, "--ssh-command" in attached.stderr) == (1, True), attached.stderr
    wait_for(lambda: row(run)["state"] == "interrupted")
    assert len(market.pods) == 1
    result = run("stop", name)
    assert not market.pods, result.stderr


def test_who_only_looks_at_a_run_stops_no_take_over() -> None:
    """Not even while the machine is so busy that a look takes a second."""
    run = RunFolder.create(new_record())
    os.close(run._lock)
    run = RunFolder.open(run.path)
    with (run.path / "lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(1.0, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        assert (run.state, run.claim()) == ("interrupted", True)
        timer.join()
    other = RunFolder.open(run.path)
    assert (other.state, other.claim()) == ("renting", False)
    assert not run.claim()
    run.unlock()
    assert other.state == "interrupted"
    run.remove()


@pytest.mark.parametrize("signal_number", [0, signal.SIGSTOP, signal.SIGKILL])
def test_stop_gives_the_pod_back(market: Emulator, run: Run, tmp_path: Path, signal_number: int) -> None:
    """As Ctrl-C does; also that of a run whose process is suspended, or has died."""
    name = run("run", "-d", *BOUNDED, "--", SLOW).stdout.strip()
    os.kill(records(tmp_path)[0]["pid"], signal_number)
    if signal_number == signal.SIGKILL:
        wait_for(lambda: row(run)["state"] == "interrupted")
    assert run("stop", name).exit_code == 0
    assert not market.pods
    assert run("attach", name).exit_code == 130
    assert re.fullmatch(
        rf"{name}: it was stopped, its command ended with exit code 143 .*No pod is left\.\n",
        run("stop", name).stderr,
    )


def test_a_process_that_is_killed_before_its_order_is_told(market: Emulator, tmp_path: Path) -> None:
    """In one line, by what has started it; no record is left."""
    market.faults.add(Delay(60))
    starting = start_command("run", "-d", *BOUNDED, "--", "true")
    wait_for(lambda: len(market.requests) > 0)
    os.kill(records(tmp_path)[0]["pid"], signal.SIGKILL)
    _, err = starting.communicate(timeout=60)
    assert (starting.returncode, err.count("\n"), records(tmp_path)) == (1, 1, []), err
    assert "was killed before its order: nothing was rented" in err


def test_a_restart_counts_what_the_earlier_pods_have_cost(
    market: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the sum that `runs` shows, and towards --max-spend: once that is used up, no pod is ordered."""
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", LOCAL_SSH)
    lease = {"login": True, "interval": 0.1, "max_hours": None, "max_spend": 50.0}
    record = new_record(
        client={"base_url": None, "context": None, "team_id": None},
        find={"gpu_type": "H100", "limit": 1},
        lease=lease,
        command=f"cat {tmp_path}/state/runs/*/run.json",
        began_at=time.time(),
        restart=1,
        spent=40.0,
    )
    for spent, code in ((40.0, 0), (50.0, 5)):
        lost = RunFolder.create(attrs.evolve(record, spent=spent))
        lost.unlock()
        result = run("attach", lost.name)
        assert result.exit_code == code, result.stderr
        assert 0 <= lost.reload().spent - spent < 1
        if code == 0:  # what its record says while the command runs
            assert json.loads((lost.path / "stdout").read_bytes())["spent"] == pytest.approx(spent, abs=1)
    assert len(market.requests.where(method="POST")) == 1


def test_a_tail_begins_with_a_line(run: Run) -> None:
    """Also if the lines are so long that a piece of the file begins within one of them."""
    ended = RunFolder.create(new_record())
    lines = [letter * 40_000 + "\n" for letter in "abc"]
    (ended.path / "stdout").write_text("".join(lines), encoding="utf-8")
    ended.end(0)
    assert run("attach", ended.name, "--tail", "2").stdout == "".join(lines[1:])
    ended.remove()


def test_prune_keeps_the_record_of_a_billed_pod(run: Run, tmp_path: Path) -> None:
    """As long as the file of its lease is there, its run is listed, its cost grows, and `stop` tells it."""
    billed = RunFolder.create(new_record())
    lease_file = tmp_path / "state" / "lease.json"
    lease_file.touch()
    ended_at = time.time() - 3600
    billed.save(lease_file=lease_file.name, leased_at=ended_at - 3600, price_hr=1.0)
    billed.save(exit_code=0, ended_at=ended_at, verdict="It may be billed.")
    billed.unlock()
    assert run("stop", billed.name).exit_code == 1
    assert row(run)["spent"] == pytest.approx(2.0, abs=0.1)
    for left in ([billed.name], []):
        assert run("runs", "--prune").exit_code == 0
        assert [each.name for each in list_runs()[0]] == left
        lease_file.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, 0])
@pytest.mark.parametrize("attached", [0, 3])
def test_many_stops_at_once_have_one_winner(
    market: Emulator, run: Run, tmp_path: Path, signal_number: int, attached: int
) -> None:
    """Whether the run has a process or not, all of them report its end, and that no pod is left."""
    name = run("run", "-d", *BOUNDED, "--", SLOW).stdout.strip()
    os.kill(records(tmp_path)[0]["pid"], signal_number)
    if signal_number:
        wait_for(lambda: row(run)["state"] == "interrupted")
    readers = [start_command("attach", name) for _ in range(attached)]
    stops = [start_command("stop", name) for _ in range(3)]
    for each in stops:
        _, err = each.communicate(timeout=60)
        assert (each.returncode, err.endswith(" No pod is left.\n")) == (0, True), err
    assert not market.pods
    for each in readers:
        _, err = each.communicate(timeout=60)
        assert (each.returncode, "Traceback" in err) == (130, False), err
    assert RunFolder.open(tmp_path / "state" / "runs" / name).record.verdict.endswith(" No pod is left.")


@pytest.mark.slow
def test_a_sweep_ends_a_run_whose_process_was_killed(market: Emulator, run: Run, tmp_path: Path) -> None:
    """The list says since when, and for how much, which no longer grows; and the run can be pruned."""
    name = run("run", "-d", *BOUNDED, "--", SLOW).stdout.strip()
    kill_process(run, tmp_path)
    folder = RunFolder.open(tmp_path / "state" / "runs" / name)
    folder.save(leased_at=(folder.record.leased_at or 0.0) - 3600)
    assert run("sweep", "--yes").exit_code == 0
    assert not market.pods
    swept = row(run)
    assert (swept["state"], swept["exit_code"], swept == row(run)) == ("ended", 130, True)
    assert swept["spent"] == pytest.approx(folder.record.price_hr, rel=0.1)
    assert re.search(r"swept \d+s ago", run("runs").stdout)
    assert "exit code 130. No pod of it is left." in run("stop", name).stderr
    run("runs", "--prune")
    assert list_runs() == ([], {})


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"exit_code": 3, "ended_at": time.time() - 3600}, 3),
        ({"result": 0}, 0),
        ({"result": 0, "downloads": [("out", "out")]}, 1),
        ({"result": 0, "downloads": [("out", "out")], "are_fetched": True}, 0),
        ({"result": 2}, 2),
        ({}, 130),
    ],
)
def test_a_pod_that_a_run_has_left_is_counted_until_its_sweep(
    run: Run, tmp_path: Path, end: dict[str, Any], code: int
) -> None:
    """Its run had ended an hour before, or its process had died; the exit code stays, and nothing is held."""
    now = time.time()
    left = RunFolder.create(new_record(began_at=now - 7200))
    left.save(**end, pod_id="pod", lease_file="gone", leased_at=now - 7200)
    left.save(price_hr=1.0, held_until=now)
    left.unlock()
    shown = row(run)
    assert shown["held_until"] is None
    assert (shown["exit_code"], shown["spent"]) == (code, pytest.approx(2.0, abs=0.1))
    assert shown["swept_at"] is not None


@pytest.mark.slow
def test_stop_waits_for_no_boot(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod of a run whose process has died is deleted while it boots: until then, it would be billed."""
    with Emulator(boot_seconds=3600, delete_seconds=0) as market:
        name_api(market, monkeypatch)
        starting = start_command("run", "-d", *BOUNDED, "--", SLOW)
        wait_for(lambda: bool(market.pods))
        kill_process(run, tmp_path)
        starting.communicate(timeout=60)
        assert run("stop", row(run)["name"]).exit_code == 0
        assert not market.pods


def test_stop_knows_whose_process_it_is(market: Emulator, run: Run) -> None:
    """In a home folder that two machines share, the pid of another machine's process is not signalled.

    A file that the process closes meanwhile, here the list of its files, hides no lock behind it.
    """
    record = new_record()
    spare = os.open(os.devnull, os.O_RDONLY)
    other = RunFolder.create(record)
    os.close(spare)
    other.signal(0)
    other.save(pid=0)
    with pytest.raises(ProcessLookupError):  # to the system, 0 is this process's group
        other.signal(0)
    other.save(host=("elsewhere", None, None), pod_id="pod7")
    result = run("stop", other.name)
    assert result.exit_code == 2
    assert "on the host elsewhere" in result.stderr
    assert "`primepods delete pod7`" in result.stderr
    other.remove()


def test_a_run_that_cannot_be_recorded_leaves_nothing() -> None:
    """Here, a limit on the size of files stands for a full disk."""
    record = new_record()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(primepods.ConfigError, match="nothing was rented"):
            RunFolder.create(record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list_runs() == ([], {})


@pytest.mark.parametrize("has_new_process", [False, True])
def test_stop_of_a_run_that_ends_meanwhile(run: Run, *, has_new_process: bool) -> None:
    """Its process has ended, and nobody has recorded that yet, or another process takes it over: it waits.

    It does not end a process that has the number of the ended one by now.
    """
    ending = RunFolder.create(new_record())
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) as other:
        ending.save(pid=other.pid if has_new_process else 0)
        timer = threading.Timer(0.5, ending.end, (3,))
        timer.start()
        result = run("stop", ending.name)
        timer.join()
        other.terminate()
    assert other.returncode == -signal.SIGTERM
    assert (result.exit_code, run("attach", ending.name).exit_code) == (0, 3), result.stderr
    ending.remove()


def test_attach_ignores_no_option(run: Run) -> None:
    """What is only for a job on a pod is refused for a run, and what is only for a run is for a job."""
    ended = RunFolder.create(new_record(client={"context": "x"}))
    ended.end(0)
    (ended.path / "stdout").write_bytes(b"line\n" * 50_000 + b"a\r\nb\nc")
    shown = run("attach", ended.name, "-c", "x", "--tail", "3")
    assert (shown.exit_code, shown.stdout.split()) == (0, ["a", "b", "c"])
    for words in (
        ["run", "--node", "1"],
        ["run", "--ssh-option=-v"],
        ["run", "-c", "y"],
        ["run", "--timeout", "5s"],
        ["a/b", "-n", "3"],
    ):
        result = run("attach", *words)
        assert result.exit_code == 2
        assert re.search(r"are for POD/JOB|--tail is for runs", result.stderr), result.stderr
    ended.remove()


@pytest.mark.slow
def test_ctrl_c_only_detaches(market: Emulator, run: Run, tmp_path: Path) -> None:
    """And says so; who reads a run does not end it, and a terminal that is closed does not either."""
    name = run("run", "-d", *BOUNDED, "--", SLOW).stdout.strip()
    reader = start_command("attach", name)
    assert reader.line() == "begun"
    reader.send_signal(signal.SIGINT)
    _, err = reader.communicate(timeout=60)
    assert (reader.returncode, f"Detached: {name} keeps running" in err) == (130, True), err
    pid = records(tmp_path)[0]["pid"]
    assert os.getsid(pid) == pid
    assert row(run)["state"] == "running"
    pod_id = next(iter(market.pods))
    other = start_command("attach", f"{pod_id}/{name}-0", *OPTIONS[2:4])
    assert other.line() == "begun"
    leaving = start_command("attach", pod_id, *OPTIONS[2:4])
    leaving.stdout.readline()
    leaving.send_signal(signal.SIGINT)
    _, err = leaving.communicate(timeout=60)
    assert (leaving.returncode, f"Detached: {pod_id}/{name}-0 keeps running" in err) == (130, True), err
    go(tmp_path)
    assert other.communicate(timeout=60)[0] == "end\n"
    assert (other.returncode, run("attach", name).exit_code) == (3, 3)


def test_the_name_of_a_run_means_its_pod(market: Emulator, run: Run, tmp_path: Path) -> None:
    """Wherever a pod's name is taken; and a pod's name is enough to follow its only job, from any machine."""
    name = run("run", "-d", *BOUNDED, "--name", "train", "--", f"echo 1 >out; {SLOW}").stdout.strip()
    [pod] = market.pods.values()
    assert str(pod.name).startswith(f"{name}-")
    assert json.loads(run("get", name, "--output", "json").stdout)["id"] == pod.id
    assert run("exec", name, *OPTIONS[2:4], "--", "cat out").stdout == "1\n"
    assert run("cp", f"{name}:out", "here", *OPTIONS[2:4]).exit_code == 0
    reader = start_command("attach", str(pod.name), *OPTIONS[2:4])
    assert reader.line() == "begun"
    go(tmp_path)
    assert reader.communicate(timeout=60)[0] == "end\n"
    assert run("attach", name).exit_code == 3
    assert not market.pods


def test_a_pod_with_several_jobs_is_asked_for_one(market: Emulator, run: Run) -> None:
    """`attach POD` lists them."""
    with primepods.Client() as client:
        remote = client.pods.remote(market.add_pod("train", boot_seconds=0), ssh_command=LOCAL_SSH)
        for name in ("one", "two"):
            remote.start("true", name=name)
    result = run("attach", "train", *OPTIONS[2:4])
    assert (result.exit_code, "2 jobs. Give one of train/one, train/two" in result.stderr) == (1, True)


@pytest.mark.slow
def test_a_lost_pod_is_replaced(market: Emulator, run: Run, tmp_path: Path) -> None:
    """As often as --restarts says; the command knows that it begins anew, and its output follows."""
    line = f"echo try ${{PRIMEPODS_RESTART:-0}}; {SLOW}"
    name = run(
        "run", "-d", *BOUNDED, "--restarts", "1", "--download", "out:results/", "--", line
    ).stdout.strip()
    [first] = market.pods
    reader = start_command("attach", name)
    assert [reader.line() for _ in range(2)] == ["try 0", "begun"]
    # Only now: what a pod has printed that nobody has read yet is lost with it.
    market.delete_pod(first)
    assert [reader.line() for _ in range(2)] == ["try 1", "begun"]
    [second] = market.pods
    assert second != first
    market.delete_pod(second)
    _, err = reader.communicate(timeout=120)
    assert (reader.returncode, err.count("was lost: "), "Not fetched: out." in err) == (4, 2, True), err
    assert not market.pods


@pytest.mark.parametrize("is_created", [True, False])
def test_output_waits_on_the_pod_while_the_disk_here_is_full(
    market: Emulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *, is_created: bool
) -> None:
    """It is here, whole and once, when there is space again, also for the file itself."""
    run = RunFolder.create(new_record(lease={"interval": 0.05}))
    failures = [OSError(errno.ENOSPC, "no space")]

    def open_file(path: Path, mode: str) -> io.FileIO:
        if path.name == "stderr" and failures:
            raise failures.pop()
        return io.FileIO(path, mode)

    if is_created:
        (run.path / "stdout").symlink_to("/dev/full")
    else:
        monkeypatch.setattr("primepods.runs._follow.io", SimpleNamespace(FileIO=open_file))

    async def follow() -> None:
        async with primepods.AsyncClient() as client:
            remote = client.pods.remote(market.add_pod("train", boot_seconds=0), ssh_command=LOCAL_SSH)
            job = await remote.start("echo said; echo other >&2")
            following = asyncio.create_task(follow_job(job, run))
            while "until there is space" not in caplog.text and not following.done():
                await asyncio.sleep(0.01)
            (run.path / "stdout").unlink(missing_ok=True)
            assert (await following).exit_code == 0

    asyncio.run(follow())
    assert [(run.path / stream).read_text(encoding="utf-8") for stream in ("stdout", "stderr")] == [
        "said\n",
        "other\n",
    ]


def test_options_from_a_file(market: Emulator, run: Run) -> None:
    """What is typed wins; what is not an option is told, with what is near."""
    Path("job.toml").write_text(
        'gpu-type = "H100"\nmax-hours = 1\nenv = ["A=1", "B=2"]\ncommand = "echo $A$B"\n', encoding="utf-8"
    )
    result = run("run", "--file", "job.toml", *OPTIONS[2:])
    assert (result.exit_code, result.stdout) == (0, "12\n"), result.stderr
    result = run("run", "--file", "job.toml", *OPTIONS[2:], "--env", "A=3", "--", "echo", "$A", "x")
    assert (result.exit_code, result.stdout) == (0, "$A x\n"), result.stderr
    for text, says in (
        ("gpu_type = 'H100'", "no option 'gpu_type'; see 'gpu-type'"),
        ("gpu-type = ['H100']", "must be one value"),
        ("gpu-type", "cannot be read"),
        ("boot-timeout = 1", "'1' has no unit: write 1s"),
    ):
        Path("job.toml").write_text(text, encoding="utf-8")
        result = run("run", "--file", "job.toml", "--", "true")
        assert (result.exit_code, says in result.stderr) == (2, True), result.stderr
    assert len(market.requests.where(method="POST")) == 2


def test_what_cannot_be_is_told(market: Emulator, run: Run, tmp_path: Path) -> None:
    """Before anything is rented, and with what to do."""
    result = run("run", "-d", *OPTIONS, "--", "true")
    assert (result.exit_code, "--detach needs --max-hours or --max-spend" in result.stderr) == (2, True)
    result = run("run", "-d", "--gpu-type", "H100", "--max-price", "0.01", "--max-hours", "1", "--", "true")
    assert (result.exit_code, "costs $" in result.stderr) == (1, True), result.stderr
    assert not list((tmp_path / "state" / "runs").iterdir())
    broken = tmp_path / "state" / "runs" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("[", encoding="utf-8")
    assert "run broken: " in run("runs").stderr
    other = new_record()
    text = json.dumps({"version": 1, **attrs.asdict(other), "host": None})
    (broken / "run.json").write_text(text, encoding="utf-8")
    assert "(its host is None). Repair it, use the version" in run("attach", "broken").stderr
    twins = [RunFolder.create(attrs.evolve(other, changes={"name": "twin"})) for _ in range(2)]
    assert "several runs have names that begin with 'twin': twin-" in run("attach", "twin").stderr
    for twin in twins:
        twin.remove()
    for name in ("-x", "../x"):
        result = run("run", "-d", *BOUNDED, f"--name={name}", "--", "true")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    for command in ("attach", "stop"):
        result = run(command, "train")
        says = "no pod has the name or id 'train'" if command == "attach" else "`primepods delete POD` ends"
        code = 1 if command == "attach" else 2
        assert (result.exit_code, says in result.stderr) == (code, True), result.stderr
    (tmp_path / "file").touch()
    os.environ["PRIMEPODS_STATE_DIR"] = str(tmp_path / "file")
    result = run("run", *OPTIONS, "--", "true")
    assert (result.exit_code, "set PRIMEPODS_STATE_DIR" in result.stderr) == (2, True), result.stderr
    assert not market.requests.where(method="POST")


def write(path: Path, **fields: Any) -> None:
    """Write a record with these fields."""
    record = new_record(command="x")
    path.write_text(json.dumps({"version": 1, **attrs.asdict(record), **fields}), encoding="utf-8")


def write_with_odd_lock(path: Path) -> None:
    """Write a record beside a folder in place of the lock."""
    write(path)
    (path.parent / "lock").mkdir()


ODD_FIELDS: list[dict[str, Any]] = [
    {"nodes": True},
    {"offsets": [[math.inf]]},
    {"spent": math.nan},
    {"price_hr": math.inf},
    {"began_at": 1e300},
    {"began_at": -1},
    {"uploads": [["a"]]},
    {"command": ["a", 1]},
    {"client": {"context": {}}},
    {"extra": 1},
]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (os.mkfifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "a link"),
        (lambda path: path.write_bytes(b" " * (17 << 20)), "is longer than"),
        (lambda path: path.write_text("[" * 100_000), "recursion"),
        (write_with_odd_lock, "Is a directory"),
        *((partial(write, **fields), f"(its {next(iter(fields))} ") for fields in ODD_FIELDS),
        (partial(write, nodes=10**9), "1000000000 nodes"),
        (partial(write, pid=2**31), "process 2147483648"),
    ],
)
def test_a_record_that_does_not_fit_is_passed_over(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], says: str
) -> None:
    """It is told in a line, beside the other runs, and neither hangs nor ends a command."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "other"))
    for name in ("odd", "well"):
        (tmp_path / "other" / "runs" / name).mkdir(parents=True)
    spoil(tmp_path / "other" / "runs" / "odd" / "run.json")
    write(tmp_path / "other" / "runs" / "well" / "run.json", command=chr(0xDCFF))
    for words in ("runs", "runs --prune", "runs --output json", "attach odd", "stop odd"):
        result = run(*words.split())
        assert (result.exit_code, says in result.stderr) == (0 if "runs" in words else 2, True), result.stderr
        assert result.stderr.count("\n") <= 2
    assert [each.name for each in list_runs()[0]] == ["well"]


@pytest.mark.parametrize("name", ["../x", "team/train", "-x", "my run", ".hidden"])
def test_the_folder_of_a_run_is_in_the_folder_of_runs(tmp_path: Path, name: str) -> None:
    """Nothing is made for a name that is none of a folder; one that another program made is passed over."""
    with pytest.raises(ValueError, match="name must be"):
        RunFolder.create(new_record(changes={"name": name}))
    assert not (tmp_path / "state").exists()
    other = tmp_path / "state" / "runs" / "my run"
    other.mkdir(parents=True)
    write(other / "run.json")
    assert (list_runs()[0], list(list_runs()[1])) == ([], ["my run"])


@pytest.mark.slow
def test_a_lease_is_taken_over_only_with_its_own_account(
    market: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its key, or at another address, nothing is changed: later, the command goes on to its end."""
    name = run("run", "-d", *BOUNDED, "--", SLOW).stdout.strip()
    kill_process(run, tmp_path)
    with Emulator() as other, monkeypatch.context() as patched:
        for key, url, says in (
            ("", market.url, "No API key"),
            ("another", market.url, "another API key"),
            (market.api_key, other.url, f"it was rented at {market.url}"),
        ):
            patched.setenv("PRIME_API_KEY", key)
            patched.setenv("PRIME_API_BASE_URL", url)
            before = records(tmp_path)
            for words in ("attach", "stop"):
                result = run(words, name)
                assert (result.exit_code, says in result.stderr) == (2, True), result.stderr
                assert (records(tmp_path), row(run)["state"]) == (before, "interrupted")
    assert len(market.pods) == 1
    go(tmp_path)
    assert run("attach", name).exit_code == 3
    assert not market.pods


@pytest.mark.slow
@pytest.mark.parametrize("is_ordered", [False, True])  # the search for none takes 20 s
def test_an_order_without_a_response_is_not_repeated(
    market: Emulator, run: Run, tmp_path: Path, *, is_ordered: bool
) -> None:
    """What takes over a run that was killed during its order finds that pod by its name, or rents none."""
    market.faults.add(Cut() if is_ordered else Delay(60), on="create")
    market.faults.add(Delay(60), on="list")
    process = start_command("run", "-d", *BOUNDED, "--", "echo x")
    wait_for(lambda: bool(market.requests.where(method="POST")))
    wait_for(lambda: len(market.pods) == is_ordered)
    os.kill(records(tmp_path)[0]["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "attach run-" in err) == (1, True), err
    [record] = records(tmp_path)
    assert record["pod_id"] is None
    market.faults.clear()
    result = run("attach", "run-")
    assert (result.exit_code, result.stdout) == ((0, "x\n") if is_ordered else (1, "")), result.stderr
    assert len(market.requests.where(method="POST")) == 1
    assert not market.pods


@pytest.mark.slow
def test_an_interrupted_order_without_a_response_may_have_a_pod(market: Emulator, tmp_path: Path) -> None:
    """So it does not say that no pod is left: a sweep looks for it."""
    market.faults.add(Cut(), on="create")
    market.faults.add(Delay(60), on="list")
    process = start_command("run", *BOUNDED, "--", "true")
    wait_for(lambda: bool(market.pods))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "`primepods sweep` looks for it" in err
    assert "No pod is left" not in err


@pytest.mark.slow
def test_a_detached_run_is_interrupted_while_its_messages_are_shown(
    market: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes in a write: the run ends, and all its messages are shown."""

    class Interrupted(io.StringIO):
        has_interrupted = False

        def write(self, text: str) -> int:
            if text and not self.has_interrupted:
                self.has_interrupted = True
                raise KeyboardInterrupt
            return super().write(text)

    err = Interrupted()
    assert run_on(monkeypatch, ["run", "-d", *BOUNDED, "--", SLOW], io.StringIO(), io.StringIO(), err) == 130
    assert "No pod is left" in err.getvalue()
    assert not market.pods


@pytest.mark.slow
def test_a_run_in_a_terminal_is_read_there(market: Emulator, run: Run, tmp_path: Path) -> None:
    """Attach says so, and names its job; stop ends it."""
    process = start_command("run", *BOUNDED, "--", SLOW)
    wait_for(lambda: any(record["job"] for record in records(tmp_path)))
    result = run("attach", "run-")
    assert (result.exit_code, f"attach {next(iter(market.pods))}/run-" in result.stderr) == (2, True)
    assert run("stop", "run-").exit_code == 0
    process.communicate(timeout=60)
    assert (process.returncode, list(market.pods)) == (130, [])
