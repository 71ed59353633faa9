"""The command in a shell: its reader leaves, it is interrupted, coloured, and asked for words to complete."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import primepods
from primepods.emulator import Delay, Emulator
from primepods.runs import Run as RunFolder
from primepods.runs import RunRecord
from tests.cli.conftest import Run, in_terminal
from tests.support.processes import Process

COMMAND = [sys.executable, "-W", "error", "-m", "primepods"]


@pytest.mark.slow
def test_a_broken_pipe_is_quiet(emulator: Emulator) -> None:
    """`primepods list | head` says nothing about the reader that has left."""
    for number in range(300):
        emulator.add_pod(id=f"many{number}", name="x" * 200)
    with Process(*COMMAND, "list", "-o", "jsonl") as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        process.wait(60)
    assert (process.returncode, said) == (141, "")


@pytest.mark.slow
@pytest.mark.parametrize("word", ["skill", "--help"])
def test_a_closed_pipe_without_a_request(word: str) -> None:
    """Also a command that needs no API, and the help, say nothing and exit with 141."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, word], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
def test_an_order_is_told_though_nobody_reads(emulator: Emulator) -> None:
    """The id of a pod that is billed is on stderr before it goes to a reader that may have left."""
    reader, writer = os.pipe()
    os.close(reader)
    order = [*COMMAND, "create", "--gpu-type", "H100", "--name", "mine", "--yes"]
    done = subprocess.run(order, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    [pod_id] = [pod_id for pod_id in emulator.pods if not pod_id.startswith("pod")]
    assert (done.returncode, done.stderr.splitlines()[-1]) == (141, f"Ordered mine: {pod_id}")


@pytest.mark.slow
def test_ctrl_c_is_clean(emulator: Emulator) -> None:
    """While it waits for an answer: one line, and 130."""
    emulator.faults.add(Delay(30), on="list")
    with Process(*COMMAND, "list") as process:
        deadline = time.monotonic() + 60
        while not emulator.requests and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (130, "", "primepods list: interrupted\n")


def test_colours_are_for_terminals(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only for those whose owner does not mind, and that can show them."""
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32mACTIVE\x1b[0m" in in_terminal(monkeypatch, "list")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in in_terminal(monkeypatch, "list")[1]
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in in_terminal(monkeypatch, "list")[1]


def asked_by(shell: str, line: str) -> dict[str, str]:
    """What a shell says when Tab is pressed at the end of a line."""
    return {
        "_PRIMEPODS_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }


@pytest.fixture
def complete(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The words that are offered at the end of a line."""

    def words(line: str, shell: str = "bash") -> list[str]:
        for name, value in asked_by(shell, line).items():
            monkeypatch.setenv(name, value)
        result = run()
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.split("\n")[:-1]

    monkeypatch.setattr("primepods.cli._shared.completion.TIMEOUT", 60.0)
    return words


def test_completion(emulator: Emulator, complete: Callable[..., list[str]]) -> None:
    """Commands, options, and ids of pods with their names; only those that are not there yet."""
    assert complete("primepods st") == ["status", "stop"]
    assert "--not-ready" in complete("primepods list --n")
    assert complete("primepods delete pod0 pod") == ["pod1", "pod2"]
    assert complete("primepods get pod", "fish") == ["pod0\ttrain-0", "pod1\ttrain-1", "pod2\ttrain-2"]
    emulator.add_pod(id="strange", name="a\\$(x)`y`\x1b'\"\n;z")
    emulator.add_pod(id="str$(x)", name="no id that a shell can take")
    for shell in ("fish", "zsh", "bash"):
        [offered] = complete("primepods ssh str", shell)
        assert "strange" in offered
        assert not set(offered) & set("\\$`\x1b\n;"), shell


def test_completion_of_values(
    emulator: Emulator, complete: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """States and contexts from here; GPUs, providers, images and keys from the API; names of pods first."""
    emulator.add_pod("boots", id="9f3d2f7a", gpu_name="L40S_48GB", boot_seconds=3600)
    with primepods.Client() as client:
        client.ssh_keys.add("laptop", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4s me@here")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".prime" / "environments").mkdir(parents=True)
    (tmp_path / ".prime" / "environments" / "staging.json").write_text("{}", encoding="utf-8")
    before = len(emulator.requests)
    assert complete("primepods list --status prov") == ["provisioning"]
    assert complete("primepods list --context s") == complete("primepods --context s") == ["staging"]
    assert len(emulator.requests) == before
    assert complete("primepods delete --gpu-type ") == ["H100_80GB", "L40S_48GB"]
    assert "B200_180GB" in complete("primepods offers --gpu B")
    assert "runpod" in complete("primepods create --provider r")
    assert complete("primepods create --image ubu")
    assert complete("primepods create --ssh-key l") == ["laptop"]
    assert complete("primepods ssh ") == ["train-0", "train-1", "train-2", "boots"]
    assert complete("primepods ssh 9f") == ["9f3d2f7a"]
    assert complete(f"primepods --base-url {emulator.url} get boo") == ["boots"]


def test_completion_of_runs(complete: Callable[..., list[str]]) -> None:
    """Names of this machine's runs, for `stop` only of those that go on."""
    fields: dict[str, Any] = {"client": {}, "find": {}, "lease": {}, "command": "", "is_detached": True}
    ended, going = (
        RunFolder.create(RunRecord(**fields, changes={"name": name}, began_at=0.0))
        for name in ("done", "train")
    )
    ended.save(exit_code=0)
    assert sorted(complete("primepods attach ")) == [ended.name, going.name]
    assert complete("primepods stop ") == [going.name]
    assert complete("primepods stop d") == [""]


def test_completion_never_fails(
    emulator: Emulator, complete: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is offered, nothing said, and nobody waits for long, when the API cannot be asked."""
    monkeypatch.setattr("primepods.cli._shared.completion.TIMEOUT", 0.2)
    emulator.faults.add(Delay(30), on="list", times=1)
    begun = time.monotonic()
    assert complete("primepods get ") == [""]
    assert time.monotonic() - begun < 20
    monkeypatch.delenv("PRIME_API_KEY")
    assert complete("primepods get ") == [""]


@pytest.mark.slow
def test_completion_as_a_process(emulator: Emulator) -> None:
    """Nothing but the words, on stdout, and nothing on stderr."""
    environment = os.environ | asked_by("bash", "primepods get pod1")
    ends_at = time.monotonic() + 90
    said = "\n"
    # On a busy machine nothing is offered, rather than that somebody waits.
    while said == "\n" and time.monotonic() < ends_at:
        done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=True)
        said = done.stdout + done.stderr
    assert said == "pod1\n"
