"""What takes the place of `ssh` where pods are emulated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from primepods import SSHTarget

TARGET = SSHTarget("root", "198.18.0.9", 2222)


def ssh(*words: str, tmp_path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Call it with the words after ``ssh``."""
    return subprocess.run(
        [sys.executable, "-m", "primepods.emulator.local_ssh", *words],
        env=dict(os.environ, TMPDIR=str(tmp_path), **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_it_takes_the_command_line_of_an_ssh_target(tmp_path: Path) -> None:
    """Options, in one word or two, are passed over; the exit code is the command's."""
    options = ["-T", "-o", "BatchMode=yes", "-oPort=1", "-i", "key", "-p", "1"]
    done = ssh(*TARGET.argv(*options, command="echo $((6*7)) && exit 3")[1:], tmp_path=tmp_path)
    assert (done.stdout, done.returncode) == ("42\n", 3)


def test_each_pod_has_a_home_and_no_variables_of_ours(tmp_path: Path) -> None:
    """Files stay with the pod, and nothing of the caller's environment is there."""
    for host in ("198.18.0.9", "198.18.0.10"):
        words = SSHTarget("root", host).argv(command="cat hello; echo hi > hello; env")[1:]
        assert "SECRET" not in ssh(*words, tmp_path=tmp_path, SECRET="x").stdout
        assert ssh(*words, tmp_path=tmp_path).stdout.startswith("hi\n")


@pytest.mark.parametrize("words", [[], ["-T"], ["--", "root@198.18.0.9"]])
def test_without_a_command_it_fails_as_ssh_does(words: list[str], tmp_path: Path) -> None:
    """There is no terminal to open."""
    assert ssh(*words, tmp_path=tmp_path).returncode == 255
