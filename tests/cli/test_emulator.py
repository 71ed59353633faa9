"""`primepods emulator`: what it prints, and how it ends."""

import errno
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import primepods
from primepods.emulator import Emulator
from tests.cli.conftest import Run
from tests.support.eventually import eventually
from tests.support.processes import Process, start_python


def start(*arguments: str, **options: Any) -> Process:
    """The command in a process of its own."""
    return start_python("-W", "error", "-m", "primepods", "emulator", *arguments, **options)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serves_until_stopped(number: signal.Signals, tmp_path: Path) -> None:
    """It prints what a shell needs to reach it, serves the pods asked for, and ends quietly when told to."""
    state = ["--state", str(tmp_path / "state.json")]
    with start("--pods", "3", "--seed", "5", "--boot-seconds", "0", "--api-key", "k1", *state) as process:
        lines = [process.line() for _ in range(4)]
        names = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        async with primepods.AsyncClient(
            names["PRIME_API_KEY"], base_url=names["PRIME_API_BASE_URL"]
        ) as client:
            ready = [pod.is_ready async for pod in client.pods.list()]
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert all(line.startswith("export ") for line in lines)
    assert names["PRIME_API_KEY"] == "k1"
    ssh_command = f" -m primepods.emulator.local_ssh --emulator {names['PRIME_API_BASE_URL']}'"
    assert names["PRIMEPODS_SSH_COMMAND"].endswith(ssh_command)
    assert ready == [True] * 3
    assert (process.returncode, said) == (0, "Serving until Ctrl-C.\n")
    assert len(Emulator.load(tmp_path / "state.json").pods) == 3


def test_port_that_is_taken(run: Run) -> None:
    """The reason is told in one line, and nothing of serving."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in ([], ["--", "true"]):
            result = run("emulator", "--port", str(port), *words)
            assert (result.exit_code, result.output.count("\n")) == (1, 1)
            assert result.output.startswith("primepods emulator: ")
            assert os.strerror(errno.EADDRINUSE).lower() in result.output.lower()


def ended(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, run to its end."""
    command = [sys.executable, "-W", "error", "-m", "primepods", "emulator", *arguments]
    env = {**os.environ, **(environment or {})}
    return subprocess.run(command, capture_output=True, check=False, text=True, timeout=100, env=env)


CLIENT = """
import os, primepods
with primepods.Client() as client:
    offers, error = client.availability.gpus().collect()
    print(len(list(client.pods.list())), len(list(client.pods.history())), {o.stock_status for o in offers})
    print(sum(pod.status == "ERROR" for pod in client.pods.list()))
    print(os.environ["PRIMEPODS_STATE_DIR"] != os.path.expanduser("~/.primepods/leases"))
    print(float(os.environ["PRIMEPODS_MAX_HOURLY"]) > 1e6)
try:
    with primepods.Client() as client:
        offer = client.availability.cheapest()
        client.pods.create(primepods.PodSpec.from_offer(offer, ssh_key_id=None))
except primepods.SoldOutError:
    print("sold out")
"""


@pytest.mark.slow
def test_a_command_runs_against_it() -> None:
    """It finds the emulator in its environment, whatever that said before, and is all that is printed."""
    other = {
        "PRIME_API_KEY": "x",
        "PRIME_BASE_URL": "https://x.example",
        "PRIME_CONTEXT": "x",
        "PRIME_TEAM_ID": "x",
        "PRIMEPODS_MAX_HOURLY": "0.01",
    }
    start = ["--pods", "4", "--boot-seconds", "0", "--failure-rate", "0.5", "--history", "7", "--stock", "0"]
    done = ended(*start, "--", sys.executable, "-c", CLIENT, environment=other)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == ["4 7 {'Unavailable'}", "2", "True", "True", "sold out"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["no-such-command"], 127, "primepods emulator: no-such-command: not found\n"),
        (["/"], 126, "primepods emulator: /: Permission denied\n"),
    ],
)
def test_the_exit_code_is_the_commands(run: Run, words: list[str], code: int, message: str) -> None:
    """As in a shell, also where there is no command."""
    result = run("emulator", "--", *words)
    assert (result.exit_code, result.output) == (code, message)


@pytest.mark.slow
@pytest.mark.parametrize("option", [["--spot-rate", "1"], ["--funds", "0.5"]])
def test_all_pods_go(run: Run, option: list[str]) -> None:
    """Spot machines are taken back, or money runs out, as in the library."""
    until_gone = "import primepods; client = primepods.Client()\nwhile list(client.pods.list()): pass"
    begin = ["emulator", "--pods", "3", "--boot-seconds", "0", "--speed", "100000", *option]
    assert run(*begin, "--", sys.executable, "-c", until_gone).exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_the_command_first(number: signal.Signals, tmp_path: Path) -> None:
    """SIGTERM is passed on; a terminal sends Ctrl-C to the command itself. What it did is saved."""
    state, script = (
        tmp_path / "state.json",
        "trap 'exit 9' TERM INT; echo ready; while :; do sleep 0.05; done",
    )
    command = ["--pods", "1", "--state", str(state), "--", "sh", "-c", script]
    with start(*command, start_new_session=True) as process:
        assert process.line() == "ready"
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        assert process.wait(60) == 9
    assert len(Emulator.load(state).pods) == 1


@pytest.mark.slow
def test_it_goes_on_from_a_file(tmp_path: Path, run: Run) -> None:
    """Saved at the end, read at the next start, with whatever has been done to it over HTTP meanwhile.

    What is only for a new state is told.
    """
    state = tmp_path / "fleet.json"
    add = "import primepods; primepods.Client().request('POST', '/_emulator/pods', json={})"
    words = ["emulator", "--pods", "2", "--state", str(state), "--", sys.executable, "-c", add]
    ids: list[list[str]] = []
    for said in ("", f"Ignored, since {state} exists: --pods\n"):
        result = run(*words)
        assert (result.exit_code, result.output) == (0, said)
        ids.append(list(Emulator.load(state).pods))
    assert (len(ids[0]), len(ids[1]), ids[1][:3]) == (3, 4, ids[0])


def test_a_state_that_cannot_be_saved(run: Run, tmp_path: Path) -> None:
    """Is told before there is something to lose."""
    result = run("emulator", "--state", str(tmp_path / "no" / "state.json"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "state.json" in result.stderr


def found(folder: Path) -> tuple[bool, bool]:
    """Whether the process and the folder are there to which this folder has links."""
    try:
        # Of a process that has ended, and that nobody has asked for, it is empty.
        is_running = bool((folder / "environ").read_bytes())
    except OSError:
        is_running = False
    return is_running, (folder / "home").exists()


# A run whose process holds its lock, as one does that ends at this moment.
ENDING = """
import os, subprocess
from primepods.runs import Run, RunRecord
run = Run.create(
    RunRecord(client={}, find={}, changes={}, lease={}, command="", is_detached=True, began_at=0.0)
)
run.save(pid=0)
os.set_inheritable(run._lock, True)
subprocess.Popen(["sleep", "0.5"], close_fds=False)
"""


def test_its_runs_end_with_it_and_no_other(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in a folder of their own, whatever the user has set; one that ends meanwhile is no error."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "state"))
    result = run("emulator", "--", sys.executable, "-c", ENDING)
    assert (result.exit_code, result.output) == (0, "")
    assert not (tmp_path / "state").exists()


# A run whose process says that it is interrupted, and does not end.
STAYING = f"""{ENDING.partition("run.save")[0]}
import signal, time
signal.signal(signal.SIGINT, lambda *_: print("told", flush=True))
if process := os.fork():
    run.save(pid=process)
else:
    time.sleep(100)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_wait_for_its_runs(number: signal.Signals, code: int) -> None:
    """The emulator stops at once, and leaves a run alone that does not end."""
    with start("--", sys.executable, "-c", STAYING, start_new_session=True) as process:
        assert process.line() == "told"
        process.send_signal(number)
        assert process.wait(60) == code
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
async def test_what_runs_on_a_pod_ends_with_it(tmp_path: Path) -> None:
    """When it is deleted, or with the emulator; its files go, too, and another pod's stay as long as it."""
    with start("--pods", "2", "--boot-seconds", "0", "--speed", "50") as process:
        lines = [shlex.split(process.line())[1] for _ in range(4)]
        url, key, _, ssh_command = (line.partition("=")[2] for line in lines)
        async with primepods.AsyncClient(key, base_url=url) as client:
            ids = [pod.id async for pod in client.pods.list()]
            gone, left = (tmp_path / pod_id for pod_id in ids)
            for folder in (gone, left):
                folder.mkdir()
                line = 'ln -s $PWD "$HERE/home"; ln -s /proc/$$/environ "$HERE"; exec sleep 600'
                remote = client.pods.remote(folder.name, ssh_command=ssh_command)
                await remote.start(line, env={"HERE": str(folder)})
            await eventually(lambda: found(gone) == found(left) == (True, True))
            await client.pods.delete(gone.name)
            await eventually(lambda: found(gone) == (False, False))
            assert found(left) == (True, True)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert found(left) == (False, False)
