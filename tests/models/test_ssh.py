"""The reader of `sshConnection`: every spelling that was seen, and that no text at all can do harm."""

import copy
import pickle
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primepods import SSHTarget
from primepods.ssh import parse_ssh
from tests.support.json_values import ANY_TEXT

USERS = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.+-]{0,20}\Z")
HOSTS = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}\Z") | st.ip_addresses().map(str)
PORTS = st.integers(1, 65_535)


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("root@135.23.125.123 -p 22", "root", "135.23.125.123", 22),
        ("ubuntu@10.0.0.2 -p 2222", "ubuntu", "10.0.0.2", 2222),
        ("ssh root@65.108.32.154 -p 22", "root", "65.108.32.154", 22),
        ("ssh -p 10022 root@1.2.3.4", "root", "1.2.3.4", 10022),
        ("-p 10022 root@1.2.3.4", "root", "1.2.3.4", 10022),
        ("root@1.2.3.4 -p22", "root", "1.2.3.4", 22),
        ("root@1.2.3.4", "root", "1.2.3.4", 22),
        ("root@1.2.3.4:2200", "root", "1.2.3.4", 2200),
        ("root@1.2.3.4:2200 -p 2300", "root", "1.2.3.4", 2300),
        ("1.2.3.4 -p 22", "root", "1.2.3.4", 22),
        ("a.b_c+d-1@host-1.example.com. -p 65535", "a.b_c+d-1", "host-1.example.com.", 65_535),
        ("root@[2001:db8::1] -p 22", "root", "2001:db8::1", 22),
        ("root@[2001:db8::1]:2200", "root", "2001:db8::1", 2200),
        ("root@2001:db8::1 -p 2200", "root", "2001:db8::1", 2200),
        ("root@::1", "root", "::1", 22),
        ("root@[host.example.com]:2200", "root", "host.example.com", 2200),
        ("  ssh   root@1.2.3.4   -p   22  ", "root", "1.2.3.4", 22),
        ("root@1.2.3.4 -p 22\n", "root", "1.2.3.4", 22),
        # Names of machines that look as if they held an option.
        ("root@gpu-p100.example.com", "root", "gpu-p100.example.com", 22),
        ("root@gpu-p4-1.example.com -p 2200", "root", "gpu-p4-1.example.com", 2200),
        ("user-p22@1.2.3.4", "user-p22", "1.2.3.4", 22),
        ("root@ssh", "root", "ssh", 22),
    ],
)
def test_every_spelling_is_read(text: str, user: str, host: str, port: int) -> None:
    """Prefix or none, the port before, behind or within, other users, IPv6."""
    assert parse_ssh(text) == SSHTarget(user, host, port)


NO_HOST: list[str | None] = [
    *(None, "", "   ", "ubuntu@", "ssh ubuntu@", "ubuntu@ -p 22", "@", "@1.2.3.4", "ssh", "-p 22"),
    *(f"root@1.2.3.4 -p{port}" for port in ("", " x", " 0", " 65536", " 222222", " ٢٢", " 22 -p 23")),
    *("root@1.2.3.4:0", "root@1.2.3.4:65536", "root@1.2.3.4:", "root@[2001:db8::1]:x", "root@[2001:db8::1"),
    *("root@[]", "root@fe80::1%eth0", "root@a@b", "root@höst", "r" * 600 + "@1.2.3.4"),
    # A second word, an option, a shell's characters, control codes.
    *("root@1.2.3.4 rm", "-oProxyCommand=x@1.2.3.4", "root@-oProxyCommand=x", "-p22@1.2.3.4"),
    *("ssh -oProxyCommand=x root@1.2.3.4", "root@1.2.3.4 -p 22 -oProxyCommand=x"),
    *("root@$(id)", "root@`id`", "root@1.2.3.4;id", "root@1.2.3.4|id", "root@~", "root@*"),
    *("root@1.2.3.4\n-p 22", "root@1.2.3.4\x00", "root@1.2.3.4\x1b[2J", "root@host\u202e"),
]


@pytest.mark.parametrize("text", NO_HOST)
def test_what_names_no_usable_host_is_none(text: str | None) -> None:
    """A placeholder, nonsense, or something that `ssh` or a shell could take for more than a host."""
    assert parse_ssh(text) is None


# Text made of the pieces that the parser looks for, in any order.
PIECES = [*" @:-[]%\n\0'$٢", "ssh", " ssh ", " -p ", "-p", "22", "root", "1.2.3.4", "::1", "-o"]
WORDS = [
    *("ssh", "root@1.2.3.4", "-p", "22", "-p22", "-oProxyCommand=id", "root@-oProxyCommand=id", "a b@c"),
    *("-oProxyCommand=id@host", "$(id)@h", "root@`id`", "root@h;id", "u@h\nx", "@", "root@", "[::1]:22"),
    *("root@[::1]", "host:99999", "root@host:22", "-", "--", "-F/etc/passwd", "''@h", "-l@host", "-Fx@host"),
    *("-E@1.2.3.4", "root@-Fx", "--@h", "-@-", "../../etc@h", "root@%h", "root@$HOME", "root@{a,b}"),
]
LINES = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=10).map("".join)
COMMANDS = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)


@given(ANY_TEXT | LINES | COMMANDS)
@example("root@-p22")
@example("--@h")
@example("-oProxyCommand=touch${IFS}/tmp/x@1.2.3.4")
def test_no_text_yields_more_than_one_word_or_an_option(text: str) -> None:
    """Whatever is sent, the outcome is nothing, or a command whose every word is what it seems to be."""
    target = parse_ssh(text)
    if target is None:
        return
    ssh, flag, port, end, where = target.argv()
    assert (ssh, flag, end) == ("ssh", "-p", "--")
    assert 1 <= int(port) <= 65_535
    assert where == f"{target.user}@{target.host}"
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+:@-]*", where)
    assert not target.host.startswith("-")
    assert shlex.split(str(target)) == ["ssh", "-p", port, where]
    assert target.user == "root" or target.user in text
    assert target.host in text


@given(USERS, HOSTS, PORTS)
def test_targets_survive_being_written_and_read(user: str, host: str, port: int) -> None:
    """The command line of a target is read as that target again; copies and pickles are equal."""
    target = SSHTarget(user, host, port)
    assert parse_ssh(str(target)) == target
    assert parse_ssh(str(target).removeprefix("ssh ")) == target
    assert pickle.loads(pickle.dumps(target)) == target
    assert copy.deepcopy(target) == target
    assert hash(target) == hash(SSHTarget(user, host, port))


@pytest.mark.parametrize(
    ("user", "host", "port"),
    [
        *((user, "h", 22) for user in ("-l", "", "a b", "a\n", None, b"a")),
        *(("root", host, 22) for host in ("-h", "", "h h", "h\n", "[::1]", "fe80::1%$(id)", None, b"h")),
        *(("root", "h", port) for port in (0, 65_536, -1, True, "22", 22.0)),
    ],
)
def test_a_target_made_by_hand_is_checked_as_well(user: str, host: str, port: int) -> None:
    """No `SSHTarget` exists whose parts could be read as an option or as more than one word."""
    with pytest.raises((TypeError, ValueError), match=r"^(user|host|port) must be"):
        SSHTarget(user, host, port)


TARGET = SSHTarget("root", "1.2.3.4", 2200)


def test_argv_takes_options_and_a_command() -> None:
    """Options stand before `--`, the command is one argument behind the host."""
    assert [*TARGET.argv(), "nvidia-smi"] == ["ssh", "-p", "2200", "--", "root@1.2.3.4", "nvidia-smi"]
    assert TARGET.argv("-A", "-L", "80:localhost:80", command="echo $HOME | wc") == [
        *("ssh", "-p", "2200", "-A", "-L", "80:localhost:80", "--", "root@1.2.3.4", "echo $HOME | wc")
    ]
    assert TARGET.argv(command=("ls", "-l"))[-1] == "ls -l"
    assert str(TARGET) == "ssh -p 2200 root@1.2.3.4"


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_a_commands_words_reach_the_remote_shell(words: list[str]) -> None:
    """Whatever they hold, the shell there reads the same words, not more and not fewer."""
    line = TARGET.argv(command=words)[-1]
    assert shlex.split(line) == words


def test_a_real_shell_reads_the_commands_words() -> None:
    """The line, run by `sh -c` as the pod's ssh server does it."""
    words = ["printf", "<%s>", "a b", "$HOME", "`id`", "'\"", "-x", "", "*", "new\nline"]
    ran = subprocess.run(["/bin/sh", "-c", TARGET.argv(command=words)[-1]], capture_output=True, check=True)
    assert ran.stdout.decode() == "".join(f"<{word}>" for word in words[2:])


@pytest.mark.parametrize(
    ("options", "command", "error"),
    [
        (("other.example.com",), None, ValueError),
        (("-A", "--", "other"), None, ValueError),
        ((2,), None, TypeError),
        ((), " \n", ValueError),
        ((), [], ValueError),
        ((), 5, TypeError),
        ((), b"ls", TypeError),
        ((), ["sleep", 5], TypeError),
        ((), {"ls"}, TypeError),
    ],
)
def test_what_would_go_elsewhere_is_refused(options: Any, command: Any, error: type[Exception]) -> None:
    """Another host in place of the pod, a terminal in place of a command, and what is no text."""
    with pytest.raises(error, match=r"^(options|command) "):
        TARGET.argv(*options, command=command)


@given(USERS, HOSTS, PORTS)
def test_a_config_block_is_four_lines(user: str, host: str, port: int) -> None:
    """Each setting is one word on a line of its own; blocks can be joined."""
    block = SSHTarget(user, host, port).config_block("train-1.a_b")
    assert [line.split() for line in block.splitlines()] == [
        ["Host", "train-1.a_b"],
        ["HostName", host],
        ["User", user],
        ["Port", str(port)],
    ]
    assert block.endswith("\n")


@pytest.mark.skipif(shutil.which("ssh") is None, reason="the machine has no ssh")
def test_ssh_reads_a_config_block(tmp_path: Path) -> None:
    """`ssh -G` resolves the name to the target's parts, beside another block."""
    file = tmp_path / "config"
    blocks = [TARGET.config_block("mine"), SSHTarget("ubuntu", "2001:db8::1").config_block("other")]
    file.write_text("".join(blocks), encoding="utf-8")
    for name, user, host, port in (("mine", "root", "1.2.3.4", 2200), ("other", "ubuntu", "2001:db8::1", 22)):
        command = ["ssh", "-F", str(file), "-G", name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert {f"user {user}", f"hostname {host}", f"port {port}"} <= set(shown)


@pytest.mark.parametrize(
    "name", ["", "*", "!a", "a b", "a\n", "a\nProxyCommand id", "-a", "a#", 'a"', "a?", "a,b", "%h", "é"]
)
def test_a_config_name_is_one_plain_word(name: str) -> None:
    """No pattern, no second name, no line of its own."""
    with pytest.raises(ValueError, match=r"^name must be"):
        TARGET.config_block(name)
