"""What takes the place of `ssh` where pods are emulated."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from primepods import SSHTarget
from primepods.emulator import Emulator

TARGET = SSHTarget("root", "198.18.0.9", 2222)


def command(*words: str) -> list[str]:
    """The command with the words after ``ssh``."""
    return [sys.executable, "-m", "primepods.emulator.local_ssh", *words]


def ssh(*words: str, tmp_path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Call it with the words after ``ssh``."""
    return subprocess.run(
        command(*words),
        env=dict(os.environ, TMPDIR=str(tmp_path), **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def homes(tmp_path: Path) -> Path:
    """Where the homes of pods are."""
    return tmp_path / f"primepods-local-ssh-{os.getuid()}"


def test_it_takes_the_command_line_of_an_ssh_target(tmp_path: Path) -> None:
    """Options, in one word or two, are passed over; the exit code is the command's."""
    options = ["-T", "-o", "BatchMode=yes", "-oPort=1", "-i", "key", "-p", "1", "-4Tp", "22", "-aP", "tag"]
    done = ssh(*TARGET.argv(*options, command="echo $((6*7)) && exit 3")[1:], tmp_path=tmp_path)
    assert (done.stdout, done.returncode) == ("42\n", 3)


@pytest.mark.parametrize(
    "words",
    [["h", "-p", "22", "echo", "a  b"], ["h", "-T", "--", "echo", "a  b"], ["-T", "h", "--", "echo", "a  b"]],
)
def test_options_may_stand_on_both_sides_of_the_host(tmp_path: Path, words: list[str]) -> None:
    """As with ``ssh``; the words of the command are joined by blanks, and a shell reads them."""
    assert ssh(*words, tmp_path=tmp_path).stdout == "a b\n"


def test_the_gpus_of_a_pod(tmp_path: Path) -> None:
    """``nvidia-smi`` tells of the emulator's pod; without the emulator's URL, it is not there."""
    with Emulator() as emulator:
        emulator.add_pod("two", gpu_name="L40S_48GB", gpu_count=2, nodes=1)
        emulator.add_pod("dead", gpu_name="L40S_48GB", gpu_count=2, nodes=1, dead_gpus=1)
        emulator.add_pod("none", gpu_name="CPU_NODE", gpu_count=1, nodes=1)
        hosts = [pod.addresses[0] for pod in emulator.pods.values()]
        option = ["--emulator", emulator.url]
        query = "nvidia-smi --query-gpu=index,name,memory.total --format=csv"
        done = {
            (host, command): ssh(*option, host, command, tmp_path=tmp_path)
            for host in (*hosts, "198.19.255.255")
            for command in ("nvidia-smi", query, f"{query},noheader,nounits", "nvidia-smi --query-gpu=x")
        }
    two, dead, none = hosts
    row = ", NVIDIA L40S_48GB, 49152"
    assert done[two, "nvidia-smi"].stdout.splitlines()[1].startswith("GPU 1: NVIDIA L40S_48GB (UUID: ")
    assert done[two, query].stdout == f"index, name, memory.total\n0{row} MiB\n1{row} MiB\n"
    assert done[two, f"{query},noheader,nounits"].stdout == f"0{row}\n1{row}\n"
    assert (done[dead, query].returncode, "GPU is lost" in done[dead, query].stdout) == (15, True)
    assert (done[none, query].returncode, done[none, query].stdout) == (6, "No devices were found\n")
    assert done[two, "nvidia-smi --query-gpu=x"].returncode == 2
    assert "does not say which GPUs" in done["198.19.255.255", query].stderr
    assert ssh(two, "nvidia-smi", tmp_path=tmp_path).returncode == 127


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["-L", "81:localhost:81"], "choose another"),
        (["-L81:localhost:81"], "choose another"),
        (["-TL", "81:localhost:81"], "choose another"),
        (["-L", "web:localhost:80"], "cannot forward 'web:localhost:80'"),
        (["-L", "70000:localhost:80"], "cannot forward '70000:localhost:80'"),
        (["-L", "8000:localhost:70000"], "cannot forward '8000:localhost:70000'"),
    ],
)
def test_a_port_that_cannot_be_forwarded(tmp_path: Path, options: list[str], problem: str) -> None:
    """However it is written, it is told, and the command is not run."""
    done = ssh(*options, "h", "echo", "ran", tmp_path=tmp_path)
    assert (done.returncode, done.stdout, problem in done.stderr) == (255, "", True), done.stderr


def test_each_pod_has_a_home_and_no_variables_of_ours(tmp_path: Path) -> None:
    """Files stay with the pod, nobody else may look, and nothing of the caller's environment is there."""
    for host in ("198.18.0.9", "198.18.0.10"):
        words = SSHTarget("root", host).argv(command="cat hello; echo hi > hello; env")[1:]
        assert "SECRET" not in ssh(*words, tmp_path=tmp_path, SECRET="x").stdout
        assert ssh(*words, tmp_path=tmp_path).stdout.startswith("hi\n")
        assert (homes(tmp_path) / host).stat().st_mode & 0o777 == 0o700
    assert homes(tmp_path).stat().st_mode & 0o777 == 0o700


def test_a_host_of_dots_is_no_other_folder(tmp_path: Path) -> None:
    """The home of ``..`` is among the others."""
    assert ssh("..", "pwd", tmp_path=tmp_path).stdout == f"{homes(tmp_path)}/-\n"


@pytest.mark.parametrize("words", [["-T"], ["h", "-T"], ["--homes"]])
def test_without_a_command_it_fails_as_ssh_does(words: list[str], tmp_path: Path) -> None:
    """There is no terminal to open."""
    assert ssh(*words, tmp_path=tmp_path).returncode == 255


def test_a_folder_that_somebody_else_may_have_made_is_refused(tmp_path: Path) -> None:
    """A link in the place of the folder for temporary files' homes, or of a pod's home, runs nothing."""
    (tmp_path / "elsewhere").mkdir()
    homes(tmp_path).symlink_to(tmp_path / "elsewhere")
    done = ssh("h", "touch", "ran", tmp_path=tmp_path)
    assert (done.returncode, "is not a folder" in done.stderr) == (255, True)
    homes(tmp_path).unlink()
    homes(tmp_path).mkdir()
    (homes(tmp_path) / "h").symlink_to(tmp_path / "elsewhere")
    assert ssh("h", "touch", "ran", tmp_path=tmp_path).returncode == 255
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can give a folder away")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    """Who owns it could change what runs."""
    homes(tmp_path).mkdir()
    os.chown(homes(tmp_path), 12_345, 12_345)
    done = ssh("h", "true", tmp_path=tmp_path)
    assert (done.returncode, "belongs to another user" in done.stderr) == (255, True)


def test_a_folder_that_others_may_enter_is_closed(tmp_path: Path) -> None:
    """It is ours, and so made private."""
    homes(tmp_path).mkdir(mode=0o755)
    assert ssh("h", "true", tmp_path=tmp_path).returncode == 0
    assert homes(tmp_path).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_goes_on_when_it_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    """As on a pod whose connection is lost; it notices by its standard input, whose end has come."""
    line = "echo begun; cat > /dev/null; sleep 0.2; echo noticed > noticed"
    with subprocess.Popen(
        command("h", line),
        env=dict(os.environ, TMPDIR=str(tmp_path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        assert process.wait(60) in {255, -number}
    ends_at = time.monotonic() + 60
    while not (homes(tmp_path) / "h" / "noticed").exists():
        assert time.monotonic() < ends_at
        time.sleep(0.05)
