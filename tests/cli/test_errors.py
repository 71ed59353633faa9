"""Errors in the words of a shell, and what a closed stderr does not stop."""

import re
import shlex
import subprocess
import sys
import time

import pytest
import typer

from primepods.cli._shared.errors import reported_errors, reword_for_shell
from primepods.emulator import Delay, Emulator, Status
from tests.cli.conftest import Run
from tests.support.processes import start_command

PYTHON = re.compile(r"pods\.\w+\(|availability\.|argument |api_key|[A-Z][a-z]+Error|pod_id|ssl:")
ORDER = ["create", "--gpu-type", "H100", "--yes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["get", "nope"], "primepods history"),
        (["logs", "nope"], "primepods history"),
        (["get", "status", "pod0"], "Give an id from `primepods list`"),
        (["list", "--context", "nope"], "(--context)"),
        (["list", "--timeout", "0s"], "--timeout must be"),
        (["wait", "pod0", "--interval", "0.001s"], "--interval must be"),
        (["list", "--base-url", "http://127.0.0.1:9", "--timeout", "1s"], "Cannot connect"),
        (["delete", "nope", "--yes"], "primepods history"),
    ],
)
def test_no_python_in_the_shell(emulator: Emulator, run: Run, arguments: list[str], words: str) -> None:
    """Remedies name commands and options, and an error tells its cause once."""
    said = run(*arguments).stderr
    assert words in said
    assert not PYTHON.search(said), said
    assert said.splitlines()[-1].count("Cannot connect") <= 1


def test_no_network_is_told_at_the_first_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The retries may take seconds: the first failure is told before them, and only that one."""
    monkeypatch.setenv("PRIME_API_KEY", "key")
    said = run("list", "--base-url", "http://127.0.0.1:9", "--timeout", "3s").stderr.splitlines()
    assert said[0] == "primepods list: Cannot connect to host 127.0.0.1:9. Trying again."
    assert len(said) == 2


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            "list -o xml",
            "'--output' / '-o' / '--format': 'xml' is not one of 'table', 'json', 'jsonl', 'csv'",
        ),
        ("wait a --until x", "'--until': 'x' is not one of 'ready', 'settled', 'failed', 'gone'"),
        ("offers --max-price x", "'--max-price': it must be a valid number|'x' is not a valid float range"),
        (
            "offers --gpu-count 0",
            "'--gpu-count': it must be greater than or equal to 1|0 is not in the range x>=1",
        ),
        ("wait a --timeout x", "'--timeout': 'x' cannot be used: write a duration like 90s, 1h30m, 2d or 1w"),
    ],
)
def test_a_value_that_is_refused(run: Run, words: str, problem: str) -> None:
    """The message says what is allowed, without the words of the library that has checked it.

    After a `|`, what older versions of typer say.
    """
    result = run(*words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    command = f"primepods {words.split(maxsplit=1)[0]}"
    option, _, reasons = problem.partition(": ")
    said = [
        f"{command}: Invalid value for {option}: {why}. See `{command} --help`.\n"
        for why in reasons.split("|")
    ]
    assert result.stderr in said


def test_a_bug_is_not_logged_as_a_rejected_argument(capsys: pytest.CaptureFixture[str]) -> None:
    """No value that can be typed has a wrong type: a `TypeError` has one traceback, which Python prints."""
    with pytest.raises(TypeError), reported_errors("primepods list", verbose=True):
        raise TypeError("a bug")
    assert capsys.readouterr().err == ""


def test_output_that_stdout_cannot_encode_is_no_wrong_usage() -> None:
    """Although Python's error is a `ValueError`, as that of a rejected argument is."""
    for error, code in ((UnicodeEncodeError("ascii", "é", 0, 1, "é"), 1), (ValueError("bad"), 2)):
        with pytest.raises(typer.Exit) as caught, reported_errors("primepods list"):
            raise error
        assert caught.value.exit_code == code


def test_a_conflict_names_the_command(emulator: Emulator, run: Run) -> None:
    """Also in the line for each pod of several."""
    emulator.faults.add(Status(409), on="delete")
    said = run("delete", "pod0", "pod1", "--yes").stderr
    assert said.count("`primepods get`") == 2
    assert reword_for_shell("`client.pods.delete('x')`") == "`primepods delete x`"
    listings = "`disks.list()`, `ssh_keys.list()`, `account.teams()`"
    assert reword_for_shell(listings) == "`primepods disks`, `primepods ssh-keys list`, `primepods teams`"
    price = "above `PodSpec.max_price`. See `availability.find()`, then raise `max_price`"
    assert reword_for_shell(price) == "above --max-price. See `primepods offers`, then raise --max-price"
    assert reword_for_shell("pods.wait_gone(), pods.lists()") == "`primepods wait --until gone`, pods.lists()"


def test_a_429_says_for_how_long(emulator: Emulator, run: Run) -> None:
    """As the API says it."""
    emulator.faults.add(Status(429, retry_after=400), on="list")
    said = run("list", "--timeout", "1s").stderr
    assert "Try again in 400 s." in said
    assert "client" not in said


def test_what_costs_nothing_is_not_billed(emulator: Emulator, run: Run) -> None:
    """An id that the API does not know is told, but not as a pod that may go on."""
    assert run("delete", "nope4", "--yes").stderr.splitlines()[1] == "0 pods deleted."


def test_mistyped_words_are_told(emulator: Emulator, run: Run) -> None:
    """A GPU that no pod has: with those that there are."""
    no_gpu = "No pod has this GPU: A100. GPUs of the pods: H100_80GB."
    assert no_gpu in run("list", "--gpu", "A100").stderr
    assert no_gpu in run("delete", "--gpu-type", "A100", "--yes").stderr


def test_the_name_is_shown_before_the_order(emulator: Emulator) -> None:
    """Killed while it orders, it has said by which name the pod is found."""
    emulator.faults.add(Delay(30), on="create")
    with start_command(*ORDER) as process:
        deadline = time.monotonic() + 60
        while not emulator.requests.where(method="POST") and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        _, said = process.communicate(timeout=60)
    [name] = re.findall("^Name: (primepods-[a-z0-9]{10,})$", said, re.MULTILINE)
    assert name


@pytest.mark.slow
@pytest.mark.parametrize("closing", ["2> >(sleep 0)", "2>&-", "2>/dev/full"])
def test_the_id_comes_whatever_happens_to_stderr(emulator: Emulator, closing: str) -> None:
    """A pod that is billed is told on stdout, also where stderr is closed, full, or read by nobody."""
    script = f"sleep 0.1; exec {shlex.quote(sys.executable)} -m primepods {' '.join(ORDER)} {closing}"
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=False)
    [pod_id] = [pod_id for pod_id in emulator.pods if not pod_id.startswith("pod")]
    assert (done.returncode, done.stdout) == (0, f"{pod_id}\n"), done.stderr


def test_an_exact_name_is_no_pattern(emulator: Emulator, run: Run) -> None:
    """Brackets are only themselves, and a name that a pod has is that pod, whatever wildcards are in it."""
    for name in ("job[1]", "job1", "run*", "run-2"):
        emulator.add_pod(name, id=f"id-{name[:4]}-{len(name)}")
    assert run("delete", "--name", "run*", "--yes").stdout == "id-run*-4\n"
    assert run("delete", "--name", "job[1]", "--yes").stdout == "id-job[-6\n"
    # A second time, as after a lost answer, there is no such pod any more.
    assert run("delete", "--name", "job[1]", "--yes").stdout == ""
    assert {pod.name for pod in emulator.pods.values()} >= {"job1", "run-2"}
