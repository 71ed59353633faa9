"""Commands on pods: what they get, what they print, how they end."""

import asyncio
import io
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import primepods
from primepods import CommandResult, OutputLine, SSHTarget
from primepods.remote import AsyncRemote
from tests.support.eventually import eventually

from .conftest import LOCAL_SSH, Pod
from .sshd import is_running

SECRET = "s3cr3t 'quoted' $HOME\nand a second line"


async def test_a_command_has_its_own_output_and_exit_code(remote: AsyncRemote) -> None:
    """Both streams apart, and 255 is the command's own, as any other code."""
    result = await remote.run("echo out; echo err >&2; exit 255", check=False)
    assert (result.exit_code, result.stdout, result.stderr) == (255, "out\n", "err\n")
    assert result.seconds > 0
    assert not result.is_truncated


async def test_a_command_gets_variables_input_and_a_folder(pod: Pod, remote: AsyncRemote) -> None:
    """Whatever they hold; the input may be binary, and longer than any pipe."""
    (pod.home / "a folder").mkdir()
    data = bytes(range(256)) * 4_000
    result = await remote.run(
        'printf "%s" "$A_SECRET"; pwd; wc -c; echo "$command$group$n"',
        env={"A_SECRET": SECRET, "command": "1", "group": "2", "n": "3"},
        input=data,
        cwd="~/a folder",
    )
    assert result.stdout == f"{SECRET}{(pod.home / 'a folder').resolve()}\n{len(data)}\n123\n"


async def test_without_input_a_command_has_none(remote: AsyncRemote) -> None:
    """What reads its standard input sees its end at once."""
    assert (await remote.run("cat; echo end", timeout=20)).stdout == "end\n"


async def test_words_reach_the_program_as_they_are(remote: AsyncRemote) -> None:
    """A list is no line for a shell."""
    words = ["a b", "$HOME", "it's", "*", "", "ünï\ncode"]
    assert (await remote.run(["printf", "<%s>", *words])).stdout == "".join(f"<{word}>" for word in words)


async def test_lines_come_as_they_are_printed(emulated: Pod) -> None:
    """The command waits for what the first has done here; a function that must be awaited is."""
    came: list[tuple[str, str]] = []

    async def on_line(line: OutputLine) -> None:
        await asyncio.sleep(0)
        came.append((line.stream, str(line)))
        (emulated.home / line.text).touch()

    command = "echo one; echo two >&2; until [ -e one ]; do sleep 0.05; done; printf three"
    await emulated.remote().run(command, on_line=on_line)
    assert sorted(came) == [("stderr", "two"), ("stdout", "one"), ("stdout", "three")]


async def test_what_is_kept_is_bounded(emulated: Pod) -> None:
    """The end is kept: 16 MiB, and 64 KiB of what was streamed; the result says so."""
    line = "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end"
    kept = await emulated.remote().run(line)
    assert (len(kept.stdout), kept.stdout[-5:], kept.is_truncated) == (16 << 20, "\nend\n", True)
    streamed = await emulated.remote().run(line, on_line=lambda _: None)
    assert (len(streamed.stdout), streamed.stdout[-5:], streamed.is_truncated) == (64 << 10, "\nend\n", True)


async def test_what_is_not_captured_is_ours(emulated: Pod, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """It goes to this process's own output, byte for byte."""
    result = await emulated.remote().run("printf '\\377\\000\\r'; printf 'no end' >&2", capture=False)
    assert result.stderr == "no end", "the end of it is kept"
    captured = capfdbinary.readouterr()
    assert (captured.out, captured.err) == (b"\xff\x00\r", b"no end")


async def test_what_is_not_captured_is_in_the_cell_of_a_notebook(
    emulated: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object in place of ``sys.stdout`` gets it, though it has the descriptor of a terminal."""
    cell = io.StringIO()
    monkeypatch.setattr(cell, "fileno", lambda: 1, raising=False)
    monkeypatch.setattr(sys, "stdout", cell)
    await emulated.remote().run("echo here", capture=False)
    assert cell.getvalue() == "here\n"


async def test_what_stays_in_the_background_holds_up_nobody(pod: Pod, remote: AsyncRemote) -> None:
    """A command that leaves a process has ended, and the process goes on."""
    result = await remote.run("sleep 60 & echo $!", timeout=30)
    pid = int(result.stdout)
    try:
        await asyncio.sleep(0.5)
        assert is_running(pid)
    finally:
        os.kill(pid, 9)


@pytest.mark.parametrize("given", [None, b"x" * 1_000_000], ids=["no input", "input that is not read"])
async def test_a_cancelled_command_ends_on_the_pod(
    pod: Pod, remote: AsyncRemote, given: bytes | None
) -> None:
    """With all of its processes, soon."""
    task = asyncio.create_task(remote.run("sleep 300 & echo $! > child; echo $$ > pid; wait", input=given))
    pids = [await read_pid(pod.home / name) for name in ("child", "pid")]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually_ended(*pids)


async def test_a_call_can_be_cancelled_while_its_ssh_starts() -> None:
    """At each step: it does not wait for a process of that `ssh` which waits for its input."""
    options = {"ssh_command": "sh -c 'exec 3<&0; setsid cat <&3 & wait' ssh"}
    remote = Pod(SSHTarget("root", "198.18.0.9", 22), Path(), options).remote()
    for steps in range(16):
        task = asyncio.create_task(remote.run("true"))
        for _ in range(steps):
            await asyncio.sleep(0)
        time.sleep(0.03)  # noqa: ASYNC251 - the loop is slow: its `ssh` is ahead of it
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait({task})


async def test_a_command_that_takes_too_long_is_stopped(pod: Pod, remote: AsyncRemote) -> None:
    """It gets SIGTERM, and time to tidy up; the error has what it printed."""
    with pytest.raises(
        primepods.CommandTimeoutError, match=r"longer than 1 s.*Its last line on stderr: working"
    ) as told:
        await remote.run("echo $$ > pid; echo working >&2; sleep 300", timeout=1)
    assert isinstance(told.value, TimeoutError)
    assert (told.value.exit_code, told.value.stderr) == (None, "working\n")
    await eventually_ended(await read_pid(pod.home / "pid"))


async def test_a_failed_command_says_what_failed(remote: AsyncRemote) -> None:
    """The exit code and the last line that it said; with ``check=False`` it is no error."""
    line = "echo first >&2; echo 'no such thing\033[2J' >&2; exit 3"
    with pytest.raises(
        primepods.CommandError,
        match=r"on pod pod1 ended with exit code 3. Its last line on stderr: no such thing \[2J$",
    ) as told:
        await remote.run(line)
    assert (told.value.exit_code, told.value.stdout, told.value.pod_id) == (3, "", "pod1")
    assert isinstance(await remote.run(line, check=False), CommandResult)


async def test_a_folder_that_is_not_there_is_an_error(remote: AsyncRemote) -> None:
    """The command is not run elsewhere."""
    with pytest.raises(primepods.CommandError, match="nowhere"):
        await remote.run("echo ran > ran", cwd="nowhere")
    assert (await remote.run("cat ran", check=False)).exit_code != 0


async def test_a_signal_ends_a_command_with_128_and_its_number(remote: AsyncRemote) -> None:
    """As in a shell."""
    assert (await remote.run("kill -9 $$", check=False)).exit_code == 137


async def test_no_argument_of_ours_and_no_environment_of_ssh_holds_a_secret(
    emulated: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables, input and the command go by standard input; ssh is started without the API key."""
    monkeypatch.setenv("PRIME_API_KEY", "the-api-key")
    seen = tmp_path / "seen"
    spy = tmp_path / "spy.py"
    spy.write_text(
        "import os, sys\n"
        f"open({str(seen)!r}, 'w').write(repr((sys.argv, dict(os.environ))))\n"
        f"words = {shlex.split(LOCAL_SSH)!r}\n"
        "os.execv(words[0], words + sys.argv[1:])\n",
        encoding="utf-8",
    )
    remote = emulated.remote(ssh_command=shlex.join([sys.executable, str(spy)]))
    await remote.run("echo $MY_TOKEN", env={"MY_TOKEN": "hidden-value"}, input="hidden-input", on_line=print)
    text = seen.read_text(encoding="utf-8")
    assert "primepods" in text
    assert not [
        secret for secret in ("the-api-key", "hidden-value", "hidden-input", "MY_TOKEN") if secret in text
    ]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"command": " "}, ValueError, "command is empty"),
        ({"command": 7}, TypeError, "command must be"),
        ({"command": "rm -r work/\0x"}, ValueError, "must not contain a NUL"),
        ({"command": ["rm", "work/\0x"]}, ValueError, "must not contain a NUL"),
        ({"env": {"A-B": "x"}}, ValueError, "names of variables"),
        ({"env": {"A": "s3cr3t\0"}}, ValueError, "contains a NUL"),
        ({"env": {"A": 5}}, TypeError, "must be a string, not int"),
        ({"cwd": ""}, ValueError, "cwd must be a path"),
        ({"input": 5}, TypeError, "input must be"),
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"on_line": 5}, TypeError, "on_line must be"),
        ({"on_line": print, "capture": False}, ValueError, "use one of them"),
        ({"check": "no"}, TypeError, "check must be"),
    ],
)
async def test_what_cannot_be_run_is_refused_before_anything_is_sent(
    given: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Also no address is looked for; no value of a variable is shown."""

    async def find_nodes() -> tuple[primepods.Node, ...]:
        raise AssertionError

    remote = AsyncRemote("pod1", find_nodes, primepods.remote.SSHOptions())
    with pytest.raises(error, match=words) as told:
        await remote.run(**{"command": "true"} | given)
    assert "s3cr3t" not in str(told.value)


async def read_pid(file: Path) -> int:
    """The number in a file, once it is there."""
    ends_at = time.monotonic() + 60
    while not (text := read_if_there(file)):
        assert time.monotonic() < ends_at, file.name
        await asyncio.sleep(0.05)
    return int(text)


def read_if_there(file: Path) -> str:
    """What is in a file, or nothing."""
    return file.read_text(encoding="ascii").strip() if file.exists() else ""


async def eventually_ended(*pids: int) -> None:
    """Wait until none of the processes lives."""
    await eventually(lambda: not any(map(is_running, pids)))
