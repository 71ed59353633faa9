"""`primepods ssh`: which command it becomes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from primepods.emulator import Emulator
from tests.cli.conftest import Run

LOGIN = "root@192.0.2.7"


@pytest.fixture(autouse=True)
def reachable(emulator: Emulator) -> str:
    """A pod whose address is known."""
    return emulator.add_pod(
        id="there", name="there", pod_fields={"sshConnection": f"{LOGIN} -p 22", "ip": "192.0.2.7"}
    )


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], f"ssh -p 22 -- {LOGIN}"),
        (["nvidia-smi"], f"ssh -p 22 -- {LOGIN} nvidia-smi"),
        (["--", "nvidia-smi", "-L"], f"ssh -p 22 -- {LOGIN} 'nvidia-smi -L'"),
        (["--", "-A", "-L", "1:h:2"], f"ssh -p 22 -A -L 1:h:2 -- {LOGIN}"),
        (["--", "-A", "--", "echo $HOME", "|", "wc"], f"ssh -p 22 -A -- {LOGIN} 'echo $HOME | wc'"),
    ],
)
def test_options_and_commands(run: Run, arguments: list[str], command: str) -> None:
    """What follows `--` is for ssh; what follows another, or does not begin with an option, for the pod."""
    result = run("ssh", "--print", "there", *arguments)
    assert (result.exit_code, without_host_keys(result.stdout)) == (0, f"{command}\n")


def without_host_keys(line: str) -> str:
    """A command line without the options about host keys, which must be there."""
    before, found, rest = line.partition(" -o UserKnownHostsFile=")
    assert found
    file, _, rest = rest.partition(" ")
    assert file.endswith("/.primepods/leases/known_hosts")
    settings = [
        "HostKeyAlias=there",
        "StrictHostKeyChecking=accept-new",
        "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",
    ]
    words = " ".join(f"-o {setting}" for setting in settings)
    assert rest.startswith(words)
    return before + rest.removeprefix(words)


@pytest.mark.slow
def test_it_becomes_ssh(emulator: Emulator, tmp_path: Path) -> None:
    """The process is replaced, with user, host and port, also by `exec -t`; the exit code is that of ssh."""
    fake = tmp_path / "ssh"
    fake.write_text('#!/bin/sh\necho "$@"\nexit 7\n', encoding="utf-8")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    command = [sys.executable, "-m", "primepods", "ssh", "there", "--", "-v", "--", "uptime"]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (7, "")
    assert without_host_keys(done.stdout) == f"-p 22 -v -- {LOGIN} uptime\n"
    done = subprocess.run(
        [*command[:3], "exec", "-it", "there", "--cwd", "~/a b", "--", "top", "-b"],
        capture_output=True,
        text=True,
        env=environment | {"PRIMEPODS_SSH_COMMAND": f"{fake} -4"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert without_host_keys(done.stdout) == f"-4 -p 22 -t -- {LOGIN} cd './a b' && sh -c 'top -b'\n"


def test_nodes(emulator: Emulator, run: Run) -> None:
    """The first that can be reached, or the one that is asked for."""
    emulator.add_pod(id="two", name="two", nodes=2, gpu_count=16, boot_seconds=0)
    lines = [run("ssh", "two", "--print", *node).stdout for node in ([], ["--node", "0"], ["--node", "1"])]
    assert lines[0] == lines[1] != lines[2]
    result = run("ssh", "two", "--node", "2")
    assert (result.exit_code, result.stderr) == (2, "primepods ssh: --node 2: the pod two has 2 nodes\n")


def test_without_ssh_it_says_so(emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names what is missing, with OpenSSH as the remedy only for ssh itself."""
    monkeypatch.setenv("PATH", "")
    result = run("ssh", "there")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "primepods ssh: ssh is not installed here: install OpenSSH\n"
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", "mine")
    assert run("ssh", "there").stderr == "primepods ssh: mine is not installed here\n"


def test_no_address_yet(emulator: Emulator, run: Run) -> None:
    """It says how the pod is, and what to do."""
    emulator.add_pod(id="boots", name="b", boot_seconds=3600)
    for arguments in (["boots"], ["boots", "--print"], ["boots", "--node", "1"]):
        result = run("ssh", *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "PROVISIONING" in result.stderr
        assert "primepods wait boots" in result.stderr
    assert run("ssh").exit_code == 2


def test_a_failed_pod_is_not_waited_for(emulator: Emulator, run: Run) -> None:
    """Nobody is sent to wait for an address that never comes."""
    emulator.add_pod(id="bad", failure="no space left", boot_seconds=0)
    result = run("ssh", "bad")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "status ERROR" in result.stderr
    assert "no space left" in result.stderr
    assert "wait" not in result.stderr
