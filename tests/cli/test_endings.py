"""Whatever ends a run: what its command has saved is here, or its pod is held, or its limit is over."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import attrs
import pytest

from primepods.emulator import Edit, Emulator
from tests.support.eventually import wait_for
from tests.support.processes import Process, start_command

from .conftest import Run, chunks
from .test_run import LOCAL_SSH, OPTIONS, here, market
from .test_runs import go, no_process_is_left, records, row

__all__ = ["here", "market", "no_process_is_left"]

A_MINUTE = "n=0; while [ $n -lt 1200 ]; do sleep 0.05; n=$((n+1)); done"
TRAINING = f"trap 'echo saved >>out; exit 3' TERM; echo begun | tee out; {A_MINUTE}"
"""Saves its work when it is asked to end, as a program for an overnight run does."""


@attrs.define
class Life:
    """A run while its command runs."""

    process: Process
    record: Path
    pods: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.record.parent.name

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its process."""
        self.process.send_signal(number)

    def stop(self, *words: str) -> int:
        """End it from another terminal; return the exit code."""
        process = start_command("stop", self.name, *words)
        process.communicate(timeout=60)
        return process.returncode

    def said_until(self, words: str) -> str:
        """Return the line of its messages that has some words, once it comes."""
        return next(line for line in self.process.stderr if words in line)

    def ended(self, market: Emulator, code: int) -> str:
        """Wait until it ends with this exit code, and no pod is left; return its messages."""
        _, err = self.process.communicate(timeout=60)
        assert (self.process.returncode, list(market.pods)) == (code, []), err
        return err

    def kill_supervisor(self) -> None:
        """Kill the shell on the pod that waits for the command."""
        [started] = self.pods.glob("*/*/.primepods/jobs/*/started")
        os.kill(int(started.read_text(encoding="utf-8").split()[0]), signal.SIGKILL)

    def age(self, change: Callable[[dict[str, float]], dict[str, float]]) -> None:
        """Let another process take it over, to which it is as old or as dear as that."""
        self.process.kill()
        self.process.communicate()
        record = json.loads(self.record.read_text(encoding="utf-8"))
        self.record.write_text(json.dumps(record | change(record)), encoding="utf-8")
        self.process = start_command("attach", self.name)


def live(tmp_path: Path, *words: str, line: str = TRAINING) -> Life:
    """Begin a run, and return when its command has begun."""
    process = start_command("run", *OPTIONS, "--download", "out:results/", *words, "--", line)
    wait_for(lambda: process.poll() is not None or any(record["job"] for record in records(tmp_path)))
    wait_for(lambda: process.poll() is not None or any((tmp_path / "pods").glob("*/*/out")))
    [record] = (tmp_path / "state" / "runs").glob("*/run.json")
    return Life(process, record, tmp_path / "pods")


def near_max_hours(record: dict[str, float]) -> dict[str, float]:
    """A second before the wind-down of an hour's limit begins."""
    return {"began_at": time.time() - 3600 + 301}


def near_max_spend(record: dict[str, float]) -> dict[str, float]:
    """The same for a dollar, of which a tenth is for the wind-down."""
    return {"spent": 1 - 0.1 - record["price_hr"] * 2 / 3600}


HOUR, DOLLAR = ["--max-hours", "60m"], ["--max-spend", "1"]
ENDS: dict[str, tuple[list[str], Callable[[Life], object], int, str]] = {
    "max-hours": (
        ["--max-hours", "60m"],
        lambda life: life.age(near_max_hours),
        5,
        "its limit was near (--max-hours 60m)",
    ),
    "max-spend": (
        ["--max-spend", "1"],
        lambda life: life.age(near_max_spend),
        5,
        "its limit was near (--max-spend $1.00)",
    ),
    "stop": ([], Life.stop, 130, "it was stopped"),
    "Ctrl-C": ([], lambda life: life.send(signal.SIGINT), 130, "it was stopped"),
    "SIGTERM": ([], lambda life: life.send(signal.SIGTERM), 143, "it was stopped by SIGTERM"),
    "SIGHUP": ([], lambda life: life.send(signal.SIGHUP), 129, "it was stopped by SIGHUP"),
    "job lost": ([], Life.kill_supervisor, 4, "the job was lost on its pod"),
}


@pytest.mark.parametrize("reason", ENDS)
def test_what_the_command_saved_is_here_whatever_ends_it(
    market: Emulator, tmp_path: Path, reason: str
) -> None:
    """The command is asked to end and has the time to save; then its results come, and the pod goes."""
    words, end, code, says = ENDS[reason]
    life = live(tmp_path, *words)
    end(life)
    out, err = life.process.communicate(timeout=60)
    assert (life.process.returncode, out) == (code, "begun\n"), err
    assert Path("results/out").read_text(encoding="utf-8") == "begun\nsaved\n", err
    assert not market.pods
    verdict = err.splitlines()[-1]
    assert verdict.startswith(f"{life.name}: {says}, its command ended with "), err
    assert verdict.endswith("No pod is left."), err
    assert "Results in results/ (12 bytes). Cost about $0." in verdict


def test_a_record_that_cannot_be_written_costs_no_result(market: Emulator, tmp_path: Path) -> None:
    """As on a full disk, here since a folder has the name of its draft: that is told, and the pod goes."""
    life = live(tmp_path)
    (life.record.parent / f"run.{life.process.pid}").mkdir()
    life.send(signal.SIGINT)
    _, err = life.process.communicate(timeout=60)
    assert Path("results/out").read_text(encoding="utf-8") == "begun\nsaved\n", err
    assert "Is a directory" in err
    assert (life.process.returncode != 0, market.pods) == (True, {})


def test_a_stop_of_a_run_that_died_at_its_commands_start(market: Emulator, tmp_path: Path) -> None:
    """The command has begun, though the record does not say so: it is asked to end, and its results come."""
    life = live(tmp_path)
    life.process.kill()
    life.process.communicate()
    record = json.loads(life.record.read_text(encoding="utf-8"))
    life.record.write_text(json.dumps(record | {"job": None}), encoding="utf-8")
    out, err = start_command("stop", life.name).communicate(timeout=60)
    assert Path("results/out").read_text(encoding="utf-8") == "begun\nsaved\n", err
    assert "Results in results/ (12 bytes)." in err.splitlines()[-1], out
    assert not market.pods


@pytest.mark.slow
def test_a_command_that_ignores_sigterm_leaves_time_for_its_results(market: Emulator, tmp_path: Path) -> None:
    """Half of what is left of the limit, here half a minute, if the run is taken over so late."""
    life = live(
        tmp_path,
        *HOUR,
        line=f"trap '' TERM; echo begun | tee out; {A_MINUTE}",
    )
    life.age(lambda _: {"began_at": time.time() - 3600 + 30})
    err = life.ended(market, 5)
    assert Path("results/out").read_text(encoding="utf-8") == "begun\n"
    assert "exit code 137 (SIGKILL, after SIGTERM)" in err.splitlines()[-1], err


STOPPED = "it was stopped, its command ended with "


@pytest.mark.parametrize("ends", [(0, STOPPED, 1), (3, "", 3)], ids=["success", "failure"])
def test_a_mistyped_path_holds_the_pod_until_it_is_fetched_or_stopped(
    market: Emulator,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ends: tuple[int, str, int],
) -> None:
    """It says until when, for how much, and how to fetch by hand; `runs` shows it, and `stop` ends it."""
    code, said, exits = ends
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", LOCAL_SSH)
    Path("code").mkdir()
    words = ["--upload", "code:work", "--download", "uot:x", "--hold", "1h"]
    life = live(tmp_path, *words, line=f"echo 1 | tee out ~/out; exit {code}")
    wait_for(lambda: row(run)["state"] == "holding")
    assert re.search(r"holding 59m", run("runs").stdout)
    said_first = life.said_until("By hand")
    assert re.search(
        r"is held until \d\d:\d\d \(1h 0m\), for at most \$1\.63, since uot could not be fetched; "
        r"trying again every 1m\. ",
        said_first,
    ), said_first
    [home] = tmp_path.glob("pods/*/*/work")
    (home / "uot").write_text("2", encoding="utf-8")
    assert run(*shlex.split(re.findall("`primepods (cp [^`]+)`", said_first)[0])).exit_code == 0
    assert (Path("x").read_text(encoding="utf-8"), len(market.pods)) == ("2", 1)
    (home / "out").write_text("work", encoding="utf-8")
    (home.parent / "top").write_text("home", encoding="utf-8")
    for path, text in (("out", "work"), ("top", "home"), ("~/out", "1\n")):
        for name in (life.name, life.name[:-3]):
            assert run("cp", f"{name}:{path}", "by hand").exit_code == 0
            assert Path("by hand").read_text(encoding="utf-8") == text
    (home / "uot").unlink()  # before the next attempt, however slow this machine is
    assert life.stop() == 1
    err = life.ended(market, exits)
    assert [record["exit_code"] for record in records(tmp_path)] == [exits]
    assert re.search(
        rf"^{life.name}: {said}exit code {code} after \d+s\. Results in results/ \(2 bytes\)\. "
        r"Not fetched: uot \(skipped\)\. ",
        err,
        re.MULTILINE,
    ), err


@pytest.mark.parametrize(
    ("make", "line", "code", "held"),
    [
        (pty.openpty, "true", 1, r"1h\s+0m\)"),
        (os.pipe, "true", 1, r"10m; see --hold\)"),
        (pty.openpty, "pyton3 train.py", 127, r"10m;\s+see\s+--hold\)"),
    ],
)
def test_a_pod_is_held_for_a_short_time_where_nobody_may_read_it_or_a_command_fails_at_once(
    market: Emulator, make: Callable[[], tuple[int, int]], line: str, code: int, held: str
) -> None:
    """Without a terminal, or for a mistyped command, unless --hold says more. A terminal shows the time."""
    ours, theirs = make()
    words = [*OPTIONS, "--download", "uot", "--", line]
    with subprocess.Popen(
        [sys.executable, "-m", "primepods", "run", *words],
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
        start_new_session=True,
    ) as process:
        os.close(theirs)
        said = ""
        while "By hand" not in said:
            said += os.read(ours, 65_536).decode()
        process.send_signal(signal.SIGINT)
    said += b"".join(chunks(ours)).decode()
    assert (re.search(r"holding, \d+m left", said) is not None) == (make is pty.openpty), said
    os.close(ours)
    assert re.search(rf"is\s+held\s+until\s+\d\d:\d\d\s+\({held}", said), said
    assert re.search(r"Ctrl-C\s+here\s+or\s+`primepods\s+stop\s+\S+\s+deletes\s+the\s+pod", said), said
    is_told = re.search(r"exit\s+code\s+127\s+\(the\s+command[^.]+\.\s+run-", said) is not None
    assert (is_told, process.returncode, list(market.pods)) == (code == 127, code, []), said


def test_who_attaches_to_a_held_pod_is_told_after_the_output(
    market: Emulator, run: Run, tmp_path: Path
) -> None:
    """The message of the hold stands before all of it."""
    words = [*OPTIONS, "--max-hours", "9", "--hold", "1h", "--download", "uot:x"]
    name = run("run", "-d", *words, "--", "seq 300").stdout.strip()
    wait_for(lambda: row(run)["state"] == "holding")
    reader = start_command("attach", name)
    assert reader.stderr is not None
    assert next(line for line in reader.stderr if "Its pod is held for 59m" in line)
    reader.send_signal(signal.SIGINT)
    out, _ = reader.communicate(timeout=60)
    assert (reader.returncode, out.splitlines()[-1]) == (130, "300")
    assert run("stop", name).exit_code == 1


def test_a_short_hold_tries_again_meanwhile(market: Emulator, tmp_path: Path) -> None:
    """Four times, if it is shorter than so many minutes."""
    life = live(tmp_path, "--download", "later", "--hold", "8s", line="echo 1 | tee out")
    life.said_until("trying again every 2s")
    [home] = tmp_path.glob("pods/*/*/out")
    home.with_name("later").touch()
    _, err = life.process.communicate(timeout=60)
    assert (life.process.returncode, Path("later").exists(), list(market.pods)) == (0, True, []), err


def unreliable(tmp_path: Path, before: str) -> list[str]:
    """Options for an `ssh` that runs some lines of shell first."""
    program = tmp_path / "unreliable"
    lines = f'case " $* " in *\' -G \'*) exit 0;; esac; cd {tmp_path}\n{before}\nexec {LOCAL_SSH} "$@"\n'
    program.write_text(f"#!/bin/sh\n{lines}", encoding="utf-8")
    program.chmod(0o755)
    return ["--ssh-command", str(program)]


def test_a_pod_that_cannot_be_reached_is_given_up_after_reconnect(market: Emulator, tmp_path: Path) -> None:
    """And a quarter of a minute for its results, not after the five minutes of other logins."""
    cut = f"""[ -e cut ] && exit 255
exec 3<&0
{LOCAL_SSH} "$@" <&3 & pid=$!
until [ -e cut ] || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
[ -e cut ] && kill -KILL $pid; wait $pid; exit"""
    life = live(tmp_path, *unreliable(tmp_path, cut), "--reconnect", "1s")
    (tmp_path / "cut").touch()
    _, err = life.process.communicate(timeout=45)
    assert (life.process.returncode, list(market.pods)) == (255, []), err
    assert "the pod could not be reached" in err.splitlines()[-1], err


def test_a_shutdown_is_one_interruption(market: Emulator, tmp_path: Path) -> None:
    """It may send SIGHUP and SIGTERM: the command still has its time to save."""
    save = "sleep 2; echo saved >>out; exit 3"
    life = live(tmp_path, line=f"trap '{save}' TERM; echo begun | tee out; {A_MINUTE}")
    life.send(signal.SIGHUP)
    life.said_until("gets SIGTERM")
    time.sleep(0.4)
    life.send(signal.SIGTERM)
    life.ended(market, 129)
    assert Path("results/out").read_text(encoding="utf-8") == "begun\nsaved\n"


def test_an_end_goes_on_though_its_process_dies(market: Emulator, tmp_path: Path) -> None:
    """What takes the run over does not take a command that was asked to end for one that has ended itself."""
    save = "while [ ! -e go ]; do sleep 0.05; done; echo saved >>out; exit 3"
    life = live(tmp_path, line=f"trap '{save}' TERM; echo begun | tee out; {A_MINUTE}")
    stop = start_command("stop", life.name)
    wait_for(lambda: any(record["ending"] for record in records(tmp_path)))
    life.process.kill()
    life.process.communicate()
    stop.communicate(timeout=60)
    life.process = start_command("attach", life.name)
    go(tmp_path)
    err = life.ended(market, 130)
    assert "saved" in Path("results/out").read_text(encoding="utf-8")
    assert f"{life.name}: it was stopped, its command ended with exit code 3 after" in err.splitlines()[-1]


def test_a_command_that_was_interrupted_at_its_start_has_begun(market: Emulator, tmp_path: Path) -> None:
    """Though the pod has not confirmed its start yet: its results are named as not fetched."""
    hang = f"""echo >>n; case $(wc -l <n) in
  2) {LOCAL_SSH} "$@" | {{ dd bs=1 count=60; sleep 60; }}; exit;;
  3) exec sleep 60;; esac"""
    words = [*OPTIONS[:2], *unreliable(tmp_path, hang), "--no-check", "--download", "out:results/"]
    life = Life(start_command("run", *words, "--", f"touch out; {A_MINUTE}"), tmp_path, tmp_path)
    wait_for(lambda: any((tmp_path / "pods").glob("*/*/out")))
    life.send(signal.SIGINT)
    wait_for(lambda: all(record["ending"] for record in records(tmp_path)))
    time.sleep(0.4)  # closer interruptions count as one
    life.send(signal.SIGINT)
    err = life.ended(market, 130)
    assert "Not fetched: out (skipped)." in err.splitlines()[-1], err


def test_a_pod_that_is_lost_before_its_results_are_here_is_told(market: Emulator, tmp_path: Path) -> None:
    """By the verdict and the exit code: the command had succeeded."""
    hang = "[ -e ended ] && exec sleep 60"
    line = f"echo 1 | tee out; until [ -e go ]; do sleep 0.05; done; touch {tmp_path}/ended"
    life = live(tmp_path, *unreliable(tmp_path, hang), line=line)
    life.process.stdout.readline()  # so that the connection exists that sees the end
    go(tmp_path)
    wait_for(lambda: any(record["result"] == 0 for record in records(tmp_path)))
    market.delete_pod(next(iter(market.pods)))
    _, err = life.process.communicate(timeout=60)
    assert life.process.returncode == 4, err
    assert ": the pod was lost, its command ended with exit code 0 after" in err.splitlines()[-1], err


def test_a_job_that_is_lost_before_the_loss_of_its_pod_is_seen(market: Emulator, tmp_path: Path) -> None:
    """That is not a job that was lost on its pod: no pod is held that is gone."""
    life = live(tmp_path, "--interval", "0.5s", "--download", "uot")
    life.kill_supervisor()
    market.delete_pod(next(iter(market.pods)))
    _, err = life.process.communicate(timeout=60)
    assert (life.process.returncode, "is held until" in err) == (4, False), err
    assert ": the pod was lost, " in err.splitlines()[-1], err  # its exit code may have been read before


def test_the_results_of_a_lost_job_are_fetched_before_its_pod_may_go(
    market: Emulator, tmp_path: Path
) -> None:
    """They do not wait until the API would show the loss of the pod, too."""
    life = live(tmp_path, "--interval", "6s")
    life.kill_supervisor()
    wait_for(Path("results/out").exists)
    life.ended(market, 4)


def test_a_pod_that_is_lost_while_it_gets_the_uploads_is_lost(market: Emulator, tmp_path: Path) -> None:
    """The connection ends before the API shows the loss: that is not a pod out of reach."""
    cut = f"""echo >>n; [ "$(wc -l <n)" -ge 2 ] && {{
  until [ -e cut ]; do sleep 0.05; done | {LOCAL_SSH} "$@"; exit 255; }}"""
    words = [*OPTIONS, *unreliable(tmp_path, cut), "--no-check", "--upload", ".:work", "--", "true"]
    (tmp_path / "n").touch()
    process = start_command("run", *words)
    wait_for(lambda: (tmp_path / "n").read_text(encoding="utf-8").count("\n") >= 2)
    market.delete_pod(next(iter(market.pods)))
    (tmp_path / "cut").touch()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, ": the pod was lost, exit code 4" in err.splitlines()[-1]) == (4, True), err


def test_a_pod_that_was_lost_while_the_run_had_no_process_is_told_once(
    market: Emulator, tmp_path: Path
) -> None:
    """In words, not as a response of the API."""
    life = live(tmp_path)
    life.process.kill()
    life.process.communicate()
    market.delete_pod(next(iter(market.pods)))
    out, err = start_command("attach", life.name).communicate(timeout=60)
    assert (err.count("was lost"), "404" in err) == (2, False), err  # also in the verdict
    assert "the pod was lost, exit code 4, " in err.splitlines()[-1], out


@pytest.mark.slow
def test_a_long_command_does_not_count_as_a_pod_out_of_reach(market: Emulator, tmp_path: Path) -> None:
    """Its results are tried again, though the pod was last asked for a copy longer ago than --reconnect."""
    cut = f"""[ -e ended ] && echo >>n && [ "$(wc -l <n)" -le 3 ] && {{
  {LOCAL_SSH} "$@" | dd bs=1 count=60; exit; }}"""
    words = [*unreliable(tmp_path, cut), "--reconnect", "5s", "--hold", "12s"]
    life = live(tmp_path, *words, line=f"echo 1 | tee out; sleep 6; touch {tmp_path}/ended")
    life.ended(market, 0)
    assert Path("results/out").exists()


def test_a_hold_ends_on_time_though_another_process_goes_on_with_it(market: Emulator, tmp_path: Path) -> None:
    """It does not begin anew: the pod is billed for no longer than was said."""
    life = live(tmp_path, "--download", "uot:x", line="echo 1 >out; exit 3")
    wait_for(lambda: any(record["held_until"] for record in records(tmp_path)))
    life.age(lambda _: {"held_until": time.time() + 1})
    _, err = life.process.communicate(timeout=30)
    assert (life.process.returncode, list(market.pods)) == (3, []), err


def test_the_time_before_a_take_over_counts_once(market: Emulator, tmp_path: Path) -> None:
    """Forty minutes of an hour leave twenty, in which the command ends."""
    line = "echo 1 | tee out; until [ -e go ]; do sleep 0.1; done; exit 3"
    life = live(tmp_path, "--max-hours", "60m", line=line)

    def let_pass(record: dict[str, float]) -> dict[str, float]:
        file = tmp_path / "state" / str(record["lease_file"])
        lease = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
        ordered_at = datetime.fromisoformat(lease["ordered_at"]) - timedelta(minutes=40)
        file.write_text(json.dumps(lease | {"ordered_at": ordered_at.isoformat()}), encoding="utf-8")
        return {name: record[name] - 40 * 60 for name in ("began_at", "leased_at")}

    life.age(let_pass)
    go(tmp_path)
    life.ended(market, 3)


@pytest.mark.parametrize("is_stop", [True, False], ids=["stop --now", "Ctrl-C twice"])
def test_a_second_interruption_fetches_nothing(market: Emulator, tmp_path: Path, *, is_stop: bool) -> None:
    """The pod goes at once, and the verdict says what was skipped."""
    life = live(
        tmp_path,
        line=f"trap '' TERM; echo begun | tee out; {A_MINUTE}",
    )
    if is_stop:
        stop = start_command("stop", life.name, "--now")
        told = stop.communicate(timeout=60)[1]
        assert stop.returncode == 0
        assert told.startswith(f"Waiting until {life.name} has ended and its pods are confirmed gone.")
    else:
        life.send(signal.SIGINT)
        life.said_until("gets SIGTERM")
        time.sleep(0.4)  # closer interruptions count as one
        life.send(signal.SIGINT)
    err = life.ended(market, 130)
    assert not Path("results").exists()
    assert "Not fetched: out (skipped)." in err


def test_results_come_while_the_command_runs_too(market: Emulator, tmp_path: Path) -> None:
    """So that a lost pod costs little; what is not there yet is told once."""
    life = live(tmp_path, "--download-every", "0.2s", "--download", "later")
    wait_for(lambda: Path("results/out").exists())
    for home in tmp_path.glob("pods/*/*/out"):
        home.with_name("later").touch()
    wait_for(Path("later").exists)
    [pod_id] = market.pods
    market.delete_pod(pod_id)
    _, err = life.process.communicate(timeout=60)
    assert life.process.returncode == 4
    assert err.count("later is not a file or folder") <= 1
    assert re.search(r"Not fetched: the last state of out, (the last state of )?later\. Cost about", err), err


def test_a_pod_that_has_failed_may_still_send_what_it_has(market: Emulator, tmp_path: Path) -> None:
    """The API shows an error, and ssh works. No fetch that began before runs beside the last one."""
    three = """touch alive.$$; set -- alive.* -- "$@"; n=0
while [ "$1" != -- ]; do kill -0 "${1#alive.}" 2>/dev/null && n=$((n+1)); shift; done; shift
[ $n -ge 3 ] && touch three; sleep 0.5"""  # one follows the command
    life = live(tmp_path, *unreliable(tmp_path, three), "--download-every", "0.1s")
    wait_for(lambda: Path("results/out").exists())
    market.faults.add(Edit(put={"data.0.status": "ERROR"}), on="status")
    err = life.ended(market, 4)
    assert Path("results/out").read_text(encoding="utf-8") == "begun\n", err
    assert not (tmp_path / "three").exists()


def test_a_result_is_looked_for_where_the_command_runs_and_then_at_home(market: Emulator, run: Run) -> None:
    """A path that begins with the upload's name is told before anything is rented, and found."""
    Path("code").mkdir()
    words = [
        "--upload",
        "code:work",
        "--download",
        "out",
        "--download",
        "work/out:again",
        "--download",
        "top",
    ]
    result = run("run", *OPTIONS, *words, "--", "echo 1 >out; echo 2 >~/top; echo 3 >~/out")
    assert result.exit_code == 0, result.stderr
    assert [Path(path).read_text(encoding="utf-8") for path in ("out", "again", "top")] == [
        "1\n",
        "1\n",
        "2\n",
    ]
    assert "Did you mean --download out?" in result.stderr.partition("Renting")[0]


def test_the_verdict_says_what_a_signal_usually_means(market: Emulator, run: Run) -> None:
    """137 alone tells nobody that the memory was too small."""
    result = run("run", *OPTIONS, "--", "kill -KILL $$")
    assert result.exit_code == 137
    assert ": exit code 137 (SIGKILL, often out of memory) after 0s." in result.stderr, result.stderr
