"""Jobs on pods: started once, read by offset through lost connections, found again, and ended."""

import asyncio
import logging
import os
import queue
import random
import shlex
import shutil
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

import primepods
from primepods import OutputLine
from primepods.emulator import Emulator
from primepods.remote import AsyncRemote, SSHOptions
from tests.support.eventually import eventually
from tests.sync.harness import InterruptedQueue

from .conftest import LOCAL_SSH, Pod
from .sshd import SSHServer
from .test_commands import SECRET, eventually_ended, read_pid


def texts(lines: list[OutputLine], stream: str = "stdout") -> list[str]:
    """The lines of one stream."""
    return [line.text for line in lines if line.stream == stream]


def cutting_pod(folder: Path, bytes_of: str) -> Pod:
    """A pod whose connections end after so many bytes: words of a shell, in which $n is their number."""
    home, script = folder / "home", folder / "ssh"
    home.mkdir()
    script.write_text(
        "#!/bin/sh\ncase \" $* \" in *' -G '*) exit 0;; esac\n"
        f"cd {shlex.quote(str(home))}; echo >>../count; n=$(wc -l <../count)\n"
        f'for line; do :; done; bytes={bytes_of}\n[ "$bytes" ] || exec setsid sh -c "$line"\n'
        # Each of the two streams tells the end: both are cut.
        'cut() { dd bs=1 count="$bytes" 2>/dev/null; }\n'
        'exec 4>&1; { setsid sh -c "$line" 2>&3 | cut >&4; } 3>&1 | cut >&2\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return Pod(primepods.SSHTarget("root", "198.18.0.9"), home, {"ssh_command": str(script)})


async def test_output_up_to_now(pod: Pod, remote: AsyncRemote) -> None:
    """Of a job that runs: its complete lines, without waiting; the rest follows from the last offset."""
    job = await remote.start("printf '1\\n2'; until [ -e go ]; do sleep 0.1; done; echo 3", name="train")
    while True:
        output = job.output(follow=False)
        if lines := [line async for line in output]:
            break
    assert output.state is not None
    assert (texts(lines), output.state.is_running) == (["1"], True)
    (pod.home / "go").touch()
    assert texts([line async for line in job.output(offset=lines[0].offset)]) == ["23"]
    assert [line async for line in job.output(offset=lines[0].offset, follow=False)]


async def test_a_job_has_its_output_and_its_end(pod: Pod, remote: AsyncRemote) -> None:
    """On every pod; each stream in order, and a reading may begin after each line."""
    (pod.home / "a folder").mkdir()
    line = 'printf "%s\\n" "$A"; pwd; echo "$n" >&2; until [ -e ../go ]; do sleep 0.1; done'
    line += '; printf "\\r1%%\\r2%%\\r\\nend"; exit 3'
    job = await remote.start(line, name="train", env={"A": SECRET, "n": "mine"}, cwd="~/a folder")
    assert (await job.state()).is_running
    (pod.home / "go").touch()
    lines = [line async for line in job.output()]
    out = [*SECRET.splitlines(), str((pod.home / "a folder").resolve()), "1%", "2%", "end"]
    assert (texts(lines), texts(lines, "stderr")) == (out, ["mine"])
    for number in (0, 1, len(lines) - 1):
        rest = [line async for line in remote.job("train").output(offset=lines[number].offset)]
        assert sorted(map(str, rest)) == sorted(map(str, lines[number + 1 :]))
    [found] = await remote.jobs()
    with pytest.raises(primepods.CommandError, match=r"ended with exit code 3. Its last line .*: mine$"):
        await found.wait()
    result = await found.wait(check=False)
    assert (result.exit_code, result.stderr, result.is_truncated) == (3, "mine\n", False)
    assert result.stdout.endswith("\r1%\r2%\r\nend")
    state = await found.state()
    assert (state.is_running, state.exit_code) == (False, 3)
    assert state.ended_at is not None
    assert state.ended_at >= state.started_at
    folder = pod.home / ".primepods" / "jobs" / "train"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "s3cr3t" not in "".join(file.read_text() for file in folder.iterdir() if file.name != "stdout")


@pytest.mark.parametrize("kept", ["49", "51", "60"])
async def test_a_start_whose_answer_is_lost_is_one_start(tmp_path: Path, kept: str) -> None:
    """It is asked for again, and finds itself, wherever the connection was cut."""
    pod = cutting_pod(tmp_path, f"$([ $n -gt 2 ] || echo {kept})")
    job = await pod.remote().start("echo begun >>begun; sleep 0.5; echo end", name="once")
    assert (await job.wait()).stdout == "end\n"
    assert (pod.home / "begun").read_text(encoding="ascii") == "begun\n"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_connection_may_be_cut_at_any_byte(tmp_path: Path, seed: int) -> None:
    """Every line comes, once and in order; what is captured is the same."""
    chance = random.Random(seed)
    # The first is that of the start.
    sizes = " ".join(str(chance.randrange(50, 900)) for _ in range(40))
    pod = cutting_pod(tmp_path, f"$(echo 9999 {sizes} | cut -s -d ' ' -f $n)")
    line = "n=0; while [ $n -lt 300 ]; do n=$((n+1)); echo line $n; echo err $n >&2; done; printf '\\377end'"
    job = await pod.remote().start(line, name="lines")
    lines = [line async for line in job.output()]
    assert texts(lines) == [*(f"line {n + 1}" for n in range(300)), "\ufffdend"]
    assert texts(lines, "stderr") == [f"err {n + 1}" for n in range(300)]
    assert (tmp_path / "count").read_text().count("\n") > 5
    (tmp_path / "count").unlink()
    assert (await job.wait()).stdout.count("\n") == 300


async def test_each_connection_that_brings_output_has_time_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short connections, with 10 s between two, are no loss of more than 30 s."""
    pod = cutting_pod(tmp_path, "$([ $n -lt 2 ] || [ $n -gt 8 ] || echo 150)")
    count = tmp_path / "count"
    count.touch()
    loop = asyncio.get_running_loop()
    real_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: real_time() + 10 * count.stat().st_size)
    job = await pod.remote().start("seq 1000 1300")
    assert (await job.wait(reconnect=30.0)).stdout.split() == [str(n) for n in range(1000, 1301)]
    assert count.stat().st_size > 8


async def test_a_lost_connection_is_told_and_the_command_goes_on(
    server: SSHServer, openssh: Pod, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where no login is possible for a while, and not for longer than is allowed."""
    remote = openssh.remote()
    job = await remote.start(
        "for n in 1 2 3 4; do seq ${n}000 ${n}999; until [ -e go$n ]; do sleep 0.05; done; done"
    )
    lines: list[OutputLine] = []
    with caplog.at_level(logging.WARNING, "primepods.remote"):
        async for line in job.output():
            lines.append(line)
            if line.text == "3999":
                server.stop()
                asyncio.get_running_loop().call_later(1.0, server.start)
            elif line.text.endswith("999"):
                server.cut()
            if line.text.endswith("999"):
                (openssh.home / f"go{line.text[0]}").touch()
    assert texts(lines) == [str(n) for n in range(1_000, 5_000)]
    assert "keeps running unless the pod restarts; trying to connect again for 900 s" in caplog.text
    server.stop()
    with pytest.raises(primepods.ConnectionLostError, match=r"may still run: continue with .*job\("):
        await follow_until_lost(server, remote)


async def follow_until_lost(server: SSHServer, remote: AsyncRemote) -> None:
    """Follow a job whose pod goes away for longer than is allowed."""
    server.start()
    job = await remote.start("echo begun; sleep 60")
    async with job.output(reconnect=1.0) as output:
        await anext(output)
        server.stop()
        await anext(output)


async def test_who_stops_reading_leaves_no_process_on_the_pod(server: SSHServer, openssh: Pod) -> None:
    """After an early end of the loop, too; a cancelled call loses no line."""
    job = await openssh.remote().start("until [ -e go ]; do sleep 0.1; done; echo 1; echo 2; sleep 60")
    output = job.output()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(output), 0.5)
    (openssh.home / "go").touch()
    assert [(await anext(output)).text for _ in range(2)] == ["1", "2"]
    assert server.sessions()
    del output
    await eventually(lambda: not server.sessions())
    async for _ in job.output():
        break
    await eventually(lambda: not server.sessions())
    await job.stop(grace=0)


async def test_stop_ends_all_that_the_command_started(pod: Pod, remote: AsyncRemote) -> None:
    """Also what has left its group, and what ignores SIGTERM; it may be stopped again."""
    stubborn = "trap '' TERM; echo $$ >other; sleep 300; :"
    line = f"trap 'echo told' TERM; setsid sh -c {shlex.quote(stubborn)} & sleep 300 & wait; wait"
    job = await remote.start(f"echo $$ >pid; {line}")
    pids = [await read_pid(pod.home / name) for name in ("pid", "other")]
    state = await job.stop(grace=0.5)
    assert not state.is_running
    assert state.exit_code in {0, 137, 143}
    await eventually_ended(*pids)
    assert await job.stop() == state
    # SIGTERM goes to the group and to all that have the token: a shell may be told twice.
    assert set((await job.wait(check=False)).stdout.splitlines()) == {"told"}


async def test_a_cancelled_stop_does_not_wait_for_the_command(emulated: Pod) -> None:
    """The script on the pod goes on by itself, also after its connection."""
    job = await emulated.remote().start("trap '' TERM; touch begun; while :; do sleep 0.1; done")
    await eventually((emulated.home / "begun").exists)
    stop = asyncio.create_task(job.stop(grace=3.0))
    await eventually(lambda: any(emulated.home.glob(".primepods/jobs/*/stopping")))
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(2.5):
            await stop
    await eventually(lambda: not any(emulated.home.glob(".primepods/jobs/*/stopping")))
    assert (await job.state()).exit_code == 137


async def test_a_stopped_command_has_its_grace(emulated: Pod) -> None:
    """In seconds: SIGKILL does not come while it saves its work, here for one second."""
    saving = "trap 'sleep 1; echo saved; exit 3' TERM"
    job = await emulated.remote().start(f"{saving}; touch begun; sleep 60 & wait")
    await eventually((emulated.home / "begun").exists)
    assert (await job.stop(grace=2.0)).exit_code == 3
    assert (await job.wait(check=False)).stdout == "saved\n"


async def test_a_second_stop_sends_no_second_sigterm(emulated: Pod) -> None:
    """It waits for the command, which may take another signal for an order to save nothing."""
    line = "trap 'echo told' TERM; touch begun; until [ -e go ]; do sleep 0.05; done"
    job = await emulated.remote().start(line)
    await eventually((emulated.home / "begun").exists)
    stopper = emulated.home / ".primepods/jobs" / job.name / "stopping"
    first = asyncio.create_task(job.stop(grace=60.0))
    await eventually(lambda: stopper.exists() and stopper.read_text())
    pid = stopper.read_text()
    second = asyncio.create_task(job.stop(grace=60.0))
    await eventually(lambda: stopper.read_text() not in {"", pid})
    (emulated.home / "go").touch()
    assert await first == await second
    assert (await job.wait()).stdout == "told\n"


@pytest.mark.slow
async def test_what_is_not_there_or_taken_is_told(emulated: Pod) -> None:
    """With what there is, and what to do."""
    remote = emulated.remote()
    with pytest.raises(primepods.JobError, match=r"has no job 'train', nor any other\."):
        await remote.job("train").state()
    job = await remote.start("printf half; sleep 60", name="train")
    for line in ("true", "sleep 60"):
        with pytest.raises(primepods.JobError, match=r"has another job train, which still runs .* or choose"):
            await remote.start(line, name="train")
    for call in (remote.job("tarin").state(), remote.job("tarin").wait(), remote.job("tarin").stop()):
        with pytest.raises(primepods.JobError, match=r"no job 'tarin', only train\."):
            await call
    for number in range(11):
        shutil.copytree(emulated.home / ".primepods/jobs/train", emulated.home / f".primepods/jobs/j{number}")
    with pytest.raises(primepods.JobError, match="only 12 others, such as j0, j1, j10, j2"):
        await remote.job("tarin").state()
    with pytest.raises(primepods.JobError, match="nowhere"):
        await remote.start("true", cwd="nowhere", name="other")
    await remote.start("true", name="other")
    with pytest.raises(primepods.CommandTimeoutError, match=r"was not seen within 1 s\. The job was not"):
        await job.wait(timeout=1)
    folder = emulated.home / ".primepods" / "jobs" / "train"
    await eventually(lambda: (folder / "stdout").stat().st_size > 0)
    os.kill(int((folder / "started").read_text().split()[0]), 9)
    with pytest.raises(primepods.JobError, match="has no exit code: the pod was restarted"):
        await job.wait()
    output = job.output()
    assert (await anext(output)).text == "half"
    for _ in range(2):
        with pytest.raises(primepods.JobError, match="has no exit code"):
            await anext(output)
    state = await job.state()
    assert (state.is_running, state.exit_code) == (False, None)
    await job.stop(grace=0)
    assert len(await remote.jobs()) == 13


class CancelAt:
    """Await something, and cancel it at one of its steps.

    Args:
        awaitable: What to await.
        step: The number of the step; it is not cancelled if it has fewer.
    """

    def __init__(self, awaitable: Awaitable[object], step: int) -> None:
        self._awaitable = awaitable
        self._step = step

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._awaitable.__await__()
        try:
            for _ in range(self._step):
                yield next(steps)
        except StopIteration as end:
            return end.value
        yield steps.throw(asyncio.CancelledError())
        return (yield from steps)


@pytest.mark.slow
async def test_a_read_that_was_cancelled_is_repeated(emulated: Pod) -> None:
    """At whichever await, nothing is lost."""
    job = await emulated.remote().start("echo 1; echo 2")
    await job.wait()
    was_cancelled, step = True, 0
    while was_cancelled:
        with anyio.fail_after(60):
            output, was_cancelled = job.output(), False
            lines: list[OutputLine] = []
            try:
                lines.append(cast("OutputLine", await CancelAt(anext(output), step)))
            except asyncio.CancelledError:
                was_cancelled = True
            lines += [line async for line in output]
        assert texts(lines) == ["1", "2"], f"cancelled at step {step}"
        step += 1
    assert step > 3


async def test_what_is_kept_is_the_end(emulated: Pod, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Without a transfer of the rest; what is not captured is this process's own, byte for byte."""
    job = await emulated.remote().start("head -c 20000000 /dev/zero | tr '\\0' x; printf '\\377\\r' >&2")
    kept = await job.wait()
    assert (len(kept.stdout), kept.is_truncated) == (16 << 20, True)
    streamed = await job.wait(capture=False)
    assert (len(streamed.stdout), streamed.is_truncated) == (64 << 10, True)
    captured = capfdbinary.readouterr()
    assert (len(captured.out), captured.err) == (20_000_000, b"\xff\r")


@pytest.mark.parametrize(
    "said",
    [
        "stdout 5 9",
        "x" * 100_000,
        "job n 99999999999 ended 99999999999 999",
        "stdout 0 9999999\\nxyz",
        "\\377",
    ],
)
async def test_a_pod_that_lies_raises_our_errors_only(tmp_path: Path, said: str) -> None:
    """Whatever its shell prints."""
    lying = tmp_path / "lying"
    lying.write_text(
        f"#!/bin/sh\nfor mark; do :; done; mark=${{mark##* }}\necho $mark ready; echo $mark ready >&2\n"
        f"printf '{said}\\n'; echo $mark exit 0; echo $mark exit 0 >&2\n",
        encoding="utf-8",
    )
    lying.chmod(0o755)
    nodes = (primepods.Node(ip=None, ssh=primepods.SSHTarget("root", "198.18.0.9")),)
    remote = AsyncRemote("pod1", nodes, SSHOptions(ssh_command=str(lying)))
    for call in (remote.job("n").wait(), remote.job("n").state()):
        try:
            await call
        except primepods.PrimePodsError:
            continue


def losing_pod(folder: Path, line: str) -> Pod:
    """A pod whose connections say no more than an exit code, after a line of the shell that may end them."""
    mute = folder / "mute"
    mute.write_text(
        "#!/bin/sh\ncase \" $* \" in *' -G '*) exit 0;; esac\ncd " + shlex.quote(str(folder)) + "\n"
        "for mark; do :; done; mark=${mark##* }\necho $mark ready; echo $mark ready >&2; read -r line\n"
        f"{line}\necho $mark exit 3; echo $mark exit 3 >&2\n",
        encoding="utf-8",
    )
    mute.chmod(0o755)
    return Pod(primepods.SSHTarget("root", "198.18.0.9"), folder, {"ssh_command": str(mute)})


async def test_a_lost_request_is_repeated_however_long_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time to connect again counts from the loss. A script that fails without a word has an exit code."""
    loop = asyncio.get_running_loop()
    real_time, lost = loop.time, tmp_path / "lost"
    monkeypatch.setattr(loop, "time", lambda: real_time() + 1_000 * lost.exists())
    pod = losing_pod(tmp_path, "[ -e lost ] || { echo >lost; exit; }")
    with pytest.raises(primepods.JobError, match=r"for the job n on pod pod1 failed with exit code 3\.$"):
        await pod.remote().job("n").stop()


async def test_a_request_that_is_always_lost_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time counts from the first loss, even if each connection lasts a while."""
    tries = tmp_path / "tries"
    tries.touch()
    loop = asyncio.get_running_loop()
    real_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: real_time() + 20 * tries.stat().st_size)
    pod = losing_pod(tmp_path, "echo >>tries; [ $(wc -l <tries) -gt 20 ] || exit")
    with pytest.raises(primepods.ConnectionLostError, match="not restored within 100 s"):
        await pod.remote().job("n").stop(grace=0)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"command": " "}, ValueError),
        ({"command": "a\0b"}, ValueError),
        ({"name": "a/b"}, ValueError),
        ({"name": ".x"}, ValueError),
        ({"name": 5}, TypeError),
        ({"cwd": ""}, ValueError),
        ({"env": {"A": 5}}, TypeError),
    ],
)
async def test_what_cannot_be_started_is_refused_before_anything_is_sent(
    given: dict[str, Any], error: type[Exception]
) -> None:
    """As a command that cannot be run; so are readings from nowhere."""

    async def find_nodes() -> tuple[primepods.Node, ...]:
        raise AssertionError

    remote = AsyncRemote("pod1", find_nodes, SSHOptions())
    with pytest.raises(error):
        await remote.start(**{"command": "true"} | given)
    for wrong in ({"offset": -1}, {"offset": "5"}, {"reconnect": -1}):
        with pytest.raises((TypeError, ValueError), match=r"offset must|reconnect must"):
            remote.job("n").output(**wrong)


def test_the_blocking_client_has_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lines, states and errors; an early end of the loop leaks nothing, and a late Ctrl-C loses nothing."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Emulator(boot_seconds=0) as emulator:
        emulator.add_pod(id="ready")
        with primepods.Client(emulator.api_key, base_url=emulator.url) as client:
            remote = client.pods.remote("ready", ssh_command=LOCAL_SSH)
            # A name that is also the word for a state.
            job = remote.start("echo 1; echo 2; exit 4", name="running")
            assert repr(job) == "<Job running on ready>"
            assert [line.text for line in job.output()] == ["1", "2"]
            with job.output() as output:
                assert next(output).text == "1"
            output = job.output()
            with monkeypatch.context() as patch:
                patch.setattr(queue, "SimpleQueue", InterruptedQueue)
                with pytest.raises(KeyboardInterrupt):
                    next(output)
            assert [line.text for line in output] == ["1", "2"]
            assert remote.job("running").wait(check=False).exit_code == 4
            assert [job.name for job in remote.jobs()] == ["running"]
            now = job.output(follow=False)
            assert now.state is None
            assert [line.text for line in now] == ["1", "2"]
            assert now.state == job.state()
            assert not job.state().is_running
            assert (job.state(), job.stop()) == (job.state(), job.state())


def test_another_thread_takes_the_line_that_was_read() -> None:
    """The thread that has read it goes on to the next one."""
    lines = [OutputLine(text=str(number), stream="stdout", offset=number) for number in (1, 2)]
    source, taken = iter([[line] for line in lines]), list[OutputLine]()

    class Source:
        """Batches of one line."""

        async def __anext__(self) -> list[OutputLine]:
            if (batch := next(source, None)) is None:
                raise StopAsyncIteration
            return batch

    with primepods.Client("key", base_url="http://127.0.0.1:1") as client:

        def call(function: Callable[..., Any]) -> Any:
            result = client._portal.call(function)
            if not taken:
                taken.append(next(output))
            return result

        output = primepods.JobOutput(client._portal, cast("Any", Source()), call)
        assert (next(output), taken, list(output)) == (lines[1], lines[:1], [])


def test_threads_share_the_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each line goes to one of them, and all end at the job's end; so with one iterator of a list."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Emulator(boot_seconds=0, pods=250) as emulator, ThreadPoolExecutor(8) as pool:
        emulator.add_pod(id="ready")
        with primepods.Client(emulator.api_key, base_url=emulator.url) as client:
            remote = client.pods.remote("ready", ssh_command=LOCAL_SSH)
            output = remote.start("for n in $(seq 40); do seq 50; done").output()
            for source, total in ((output, 2_000), (iter(client.pods.list(page_size=5)), 251)):
                parts = list(pool.map(tuple, [source] * 8))
                assert sum(map(len, parts)) == total


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_hour_of_output_arrives_whole(server: SSHServer, openssh: Pod) -> None:
    """A line a second, in less time: cut after each minute, and once for long."""
    job = await openssh.remote(login_timeout=120.0).start(
        "for m in $(seq 1 60); do seq ${m}00 ${m}59; until [ -e go$m ]; do sleep 0.02; done; done"
    )
    lines = []
    async for line in job.output():
        lines.append(line.text)
        minute, second = int(line.text[:-2]), line.text[-2:]
        if second == "59":
            if minute == 20:
                server.stop()
                asyncio.get_running_loop().call_later(3.0, server.start)
            else:
                server.cut()
            (openssh.home / f"go{minute}").touch()
    assert lines == [f"{minute}{second:02}" for minute in range(1, 61) for second in range(60)]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_thirty_jobs_at_once(openssh: Pod) -> None:
    """More than may log in at once: each begins once, and each has its own output."""
    remote = openssh.remote(login_timeout=240.0)

    async def work(number: int) -> str:
        job = await remote.start(f"echo {number} >>begun; sleep 0.3; echo {number}", name=f"job-{number}")
        return (await job.wait()).stdout

    assert await asyncio.gather(*map(work, range(30))) == [f"{number}\n" for number in range(30)]
    assert sorted((openssh.home / "begun").read_text().split()) == sorted(map(str, range(30)))
