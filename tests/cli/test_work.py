"""`primepods exec` and `primepods cp`: commands and files on pods."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from primepods.emulator import Emulator
from tests.support.eventually import wait_for
from tests.support.processes import Process, start_command

from .conftest import Run, in_terminal
from .test_endings import unreliable
from .test_run import LOCAL_SSH


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pods' homes and known hosts are the test's own."""
    (tmp_path / "pods").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "pods"))
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "state"))


def exec_on(run: Run, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `primepods exec`."""
    result = run("exec", "--ssh-command", LOCAL_SSH, *words, stdin=stdin)
    return result.exit_code, result.stdout, result.stderr


def test_output_and_exit_code_are_the_commands(emulator: Emulator, run: Run) -> None:
    """Several words are a program's, one is a line for the shell; a pod is named by its name, too."""
    assert exec_on(run, "train-1", "--", "sh", "-c", 'echo "$0" >&2; exit 7', "a  b") == (7, "", "a  b\n")
    assert exec_on(run, "pod1", "--", "echo a  b | tr a c") == (0, "c b\n", "")


def test_a_command_gets_variables_a_folder_and_stdin(
    emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable without a value is this shell's; stdin is given only when asked for."""
    monkeypatch.setenv("HERE", "here")
    words = ["--env", "HERE", "-e", "B=x=y", "--cwd", "/", "pod0", "--", "echo $HERE $B; pwd; cat"]
    assert exec_on(run, "-i", *words, stdin="given") == (0, "here x=y\n/\ngiven", "")
    assert exec_on(run, *words, stdin="given") == (0, "here x=y\n/\n", "")


def test_all_nodes_or_one(emulator: Emulator, run: Run, tmp_path: Path) -> None:
    """Each line says its node; the first failure is the exit code; copies go to the node that is named."""
    emulator.add_pod(id="big", nodes=2, gpu_count=16, boot_seconds=0)
    words = ["big", "--env", "A=b", "--cwd", "/", "--", "echo $NODE_RANK/$NNODES $A $PWD; echo e >&2"]
    code, stdout, stderr = exec_on(run, "--all-nodes", *words)
    assert (code, sorted(stdout.splitlines())) == (0, ["0: 0/2 b /", "1: 1/2 b /"])
    assert sorted(stderr.splitlines()) == ["0: e", "1: e"]
    code, _, stderr = exec_on(
        run, "--all-nodes", "big", "--", "exit $((NODE_RANK * 7 + 5 * (1 - NODE_RANK)))"
    )
    assert code in {5, 7}
    assert f"big (node {0 if code == 5 else 1}) ended with exit code {code}" in stderr
    (tmp_path / "file").touch()
    login = ["--ssh-command", LOCAL_SSH]
    assert run("cp", *login, "--node", "1", str(tmp_path / "file"), "big:copy").output == ""
    assert [exec_on(run, "--node", n, "big", "--", "ls copy")[0] for n in ("0", "1")] == [2, 0]
    assert exec_on(run, "--node", "2", "big", "--", "true")[0] == 255


def test_an_option_of_ssh_that_is_none_is_told_in_the_words_of_a_shell(emulator: Emulator, run: Run) -> None:
    """With what was given, and nothing is sent to the pod."""
    code, _, stderr = exec_on(run, "--ssh-option", "key.pem", "pod0", "--", "true")
    assert (code, "got ('key.pem',).\n" in stderr) == (2, True), stderr


def test_a_pod_that_lets_nobody_in_is_exit_code_255(
    emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ssh has it; so is one without an address."""
    emulator.add_pod(id="booting", boot_seconds=1_000)
    code, _, stderr = exec_on(run, "booting", "--", "true")
    assert code == 255
    assert "Wait until the pod is ready, with `primepods wait`" in stderr


@pytest.mark.slow
def test_ssh_is_started_without_the_key(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What else is in the environment stays."""
    stub = tmp_path / "bin" / "ssh"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\nenv >&2\nexit 3\n", encoding="utf-8")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_AUTH_SOCK", "agent")
    python = [sys.executable, "-m", "primepods"]
    shown = subprocess.run([*python, "ssh", "pod0"], capture_output=True, text=True, check=False, timeout=30)
    assert (shown.returncode, "SSH_AUTH_SOCK=agent" in shown.stderr) == (3, True)
    assert emulator.api_key not in shown.stderr


def test_what_a_killed_copy_has_left_goes_with_the_next(
    emulator: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only that: another copy to the same folder is not disturbed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", LOCAL_SSH)
    assert exec_on(run, "pod1", "--", "mkdir new; echo 1 >new/file")[0] == 0
    hang = f"""{LOCAL_SSH} "$@" | {{ dd bs=1 count=60; until [ -e go ]; do sleep 0.05; done; cat; }}; exit"""
    words = ["cp", *unreliable(tmp_path, hang), "pod1:new", "new"]
    processes: list[Process] = []
    for number in (1, 2):
        processes.append(start_command(*words))
        wait_for(lambda: len(list(tmp_path.glob(".primepods-*"))) == number)  # noqa: B023 - is called here
    processes[0].kill()
    processes[0].communicate()
    assert run("cp", "pod1:new/file", f"{tmp_path}/").exit_code == 0
    assert len(list(tmp_path.glob(".primepods-*"))) == 1
    (tmp_path / "go").touch()
    _, err = processes[1].communicate(timeout=60)
    assert (processes[1].returncode, Path("new/file").exists()) == (0, True), err
    assert not list(tmp_path.glob(".primepods-*"))


def test_files_go_there_and_back(emulator: Emulator, run: Run, tmp_path: Path) -> None:
    """A folder's contents, or one file; in a terminal a bar shows how far."""
    (tmp_path / "data" / "empty").mkdir(parents=True)
    (tmp_path / "data" / "file").write_text("x", encoding="utf-8")
    login = ["--ssh-command", LOCAL_SSH]
    assert run("cp", *login, str(tmp_path / "data"), "train-1:work/data").output == ""
    assert exec_on(run, "pod1", "--", "ls work/data")[1] == "empty\nfile\n"
    assert run("cp", *login, "pod1:work/data/file", f"{tmp_path}/").output == ""
    assert (tmp_path / "file").read_text(encoding="utf-8") == "x"
    assert exec_on(run, "pod1", "--", "mv work/data/file 'a[1].txt'")[0] == 0
    assert run("cp", *login, "pod1:a[1].txt", f"{tmp_path}/").output == ""
    assert (tmp_path / "a[1].txt").read_text(encoding="utf-8") == "x"
    result = run("cp", *login, "pod1:none", str(tmp_path / "x"))
    assert result.exit_code == 1
    assert "none is not a file or folder" in result.stderr
    assert run("cp", *login, str(tmp_path / "none"), "pod1:x").exit_code == 1
    assert run("cp", *login, "--exclude", "f*", str(tmp_path / "data"), "pod1:bare").exit_code == 0
    assert exec_on(run, "pod1", "--", "ls bare")[1] == "empty\n"
    assert run("cp", *login, "--exclude", "f*", "pod1:bare", str(tmp_path)).exit_code == 2


@pytest.mark.slow
def test_a_copy_in_a_terminal_shows_how_far_it_is(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In megabytes, on stderr."""
    monkeypatch.setenv("TERM", "xterm-256color")
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    # After the login, which comes first.
    script = f'{LOCAL_SSH} "$@" | (read -r mark; echo "$mark"; sleep 1; cat)'
    slow = f"sh -c {shlex.quote(script)} ssh"
    code, _ = in_terminal(monkeypatch, "cp", "--ssh-command", LOCAL_SSH, str(tmp_path / "file"), "pod1:file")
    assert code == 0
    words = ["cp", "--ssh-command", slow, "pod1:file", str(tmp_path / "back")]
    code, shown = in_terminal(monkeypatch, *words)
    assert code == 0
    assert "copied" in shown
    _, shown = in_terminal(monkeypatch, *words[:3], str(tmp_path / "file"), "pod1:again")
    assert ("3.0/3.0 MB" in shown, "3.0/?" in shown) == (True, False), "the size is known before the end"
    assert (tmp_path / "back").stat().st_size == 3_000_000


@pytest.mark.slow
def test_a_large_copy_is_warned_of_and_git_decides_what_is_left_out(
    emulator: Emulator, run: Run, tmp_path: Path
) -> None:
    """By the patterns of a file; one that cannot be read is told before anything is sent."""
    folder = tmp_path / "project"
    for name in ("data/big", "data/keep", "build/x", "src/build/x", "src/a.py", "src/a.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    os.truncate(folder / "data" / "big", 120_000_000)
    (folder / ".gitignore").write_text("# mine\n/build\n*.pyc\ndata/*\n!data/keep\n", encoding="utf-8")
    login = ["--ssh-command", LOCAL_SSH]
    result = run("cp", *login, str(folder), "pod1:all")
    assert "has 7 files, 120 MB: exclude files that the pod does not need" in result.stderr
    (tmp_path / "more").write_text("!build/x\n!src/a.pyc\n", encoding="utf-8")
    given = [f"--exclude-from={file}" for file in (folder / ".gitignore", tmp_path / "more")]
    given += ["--exclude", ".gitignore"]
    assert run("cp", *login, *given, str(folder), "pod1:some").output == ""
    found = exec_on(run, "pod1", "--", "cd some && find . -type f | sort")[1].split()
    assert found == ["./data/keep", "./src/a.py", "./src/a.pyc", "./src/build/x"]
    result = run("cp", *login, "--exclude-from", "none", str(folder), "pod1:none")
    assert (result.exit_code, "--exclude-from none: No such file" in result.stderr) == (2, True)


def test_an_address_that_was_made_up_is_told_at_once(
    emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable that makes rehearsals work, which the library reads."""
    result = run("exec", "pod1", "--", "echo in")
    assert result.exit_code == 2
    assert "that of an emulated pod" in result.stderr
    assert "PRIMEPODS_SSH_COMMAND=" in result.stderr
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", LOCAL_SSH)
    assert run("exec", "pod1", "--", "echo in").stdout == "in\n"
    printed = run("ssh", "pod1", "--print").stdout
    assert printed.startswith(f"{shlex.quote(sys.executable)} -m primepods.emulator")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_command_ends_on_the_pod(
    emulator: Emulator, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Whichever way it is interrupted."""
    begun = tmp_path / "begun"
    line = f"trap 'rm {begun}; exit' TERM; touch {begun}; while :; do sleep 0.1; done"
    with start_command("exec", "--ssh-command", LOCAL_SSH, "pod0", "--", line) as process:
        wait_for(begun.exists)
        process.send_signal(number)
        assert process.wait(60) == code
    wait_for(lambda: not begun.exists())
