"""A real OpenSSH server: late, full, with another key, and lost on the way."""

import asyncio
import logging
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

import primepods
from primepods.remote import AsyncRemote, host_key_settings, wait_for_login
from tests.support.eventually import eventually

from .conftest import Pod
from .sshd import SSHServer, children, make_key
from .test_commands import eventually_ended, read_pid


async def test_a_late_server_is_waited_for(server: SSHServer, caplog: pytest.LogCaptureFixture) -> None:
    """It is ready when it lets us in; the log says once why it does not yet, and nothing runs twice."""
    pod = Pod(server.target, server.home, {"ssh_options": server.options})

    async def start_late() -> None:
        await eventually(lambda: caplog.records)
        await asyncio.to_thread(server.start)

    with caplog.at_level(logging.INFO, "primepods"):
        await asyncio.gather(wait_for_login(pod.remote()), start_late())
    [record] = caplog.records
    assert "Cannot log in to pod pod1 yet" in record.getMessage()
    assert "refused" in record.getMessage()


@pytest.mark.slow
async def test_eight_at_once_work_where_the_server_turns_others_away(server: SSHServer) -> None:
    """What was turned away before it began is tried again, and runs once."""
    server.start("MaxStartups 2:100:2")
    remote = Pod(server.target, server.home, {"ssh_options": server.options}).remote()
    lines = [f"echo {number} >> ran; sleep 0.5; echo {number}" for number in range(8)]
    results = await asyncio.gather(*map(remote.run, lines))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(8)]
    ran = (server.home / "ran").read_text(encoding="ascii").split()
    assert sorted(ran) == sorted(map(str, range(8)))


async def test_a_wrong_key_is_told_with_what_ssh_said_and_which_was_tried(
    server: SSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how to give the right one; nothing was run, and no ssh has the API key in its environment.

    The reason is told though the server, which locks out whom it has refused, resets later connections.
    """
    server.start("PerSourcePenalties authfail:20s min:30s")
    make_key(tmp_path / "other_key")
    options = [*server.options[:-2], "-i", str(tmp_path / "other_key")]
    monkeypatch.setenv("PRIME_API_KEY", "the-api-key")
    seen = tmp_path / "seen"
    spy = f'sh -c \'{{ echo "$@"; env; }} >>{seen}; exec ssh "$@"\' ssh'
    pod = Pod(server.target, server.home, {"ssh_options": options, "ssh_command": spy})
    remote = pod.remote(login_timeout=8.0)
    with pytest.raises(primepods.LoginError) as told:
        await remote.run("touch ran")
    message = str(told.value)
    assert "the-api-key" not in seen.read_text(encoding="utf-8")
    assert seen.read_text(encoding="utf-8").count("LogLevel=DEBUG1") == 1
    for words in ("within 8 s", "Permission denied (publickey)", "other_key ED25519 SHA256:", "ssh_key_id"):
        assert words in message
    assert "Permission denied" in told.value.said
    assert told.value.is_key_refused
    assert list(server.home.iterdir()) == []
    assert "penalty" in (server.folder / "sshd.log").read_text(encoding="utf-8", errors="replace")


async def test_a_host_key_that_changes_is_refused_at_once(server: SSHServer, state: Path) -> None:
    """The first is remembered under the pod's id, and not under an address that another pod may get.

    A user who wants only known host keys is told that the first one is not known.
    """
    server.start()
    pod = Pod(server.target, server.home, {"ssh_options": server.options})
    with pytest.raises(primepods.ConfigError, match=r"Change ssh_options.*requested strict checking"):
        await pod.remote(ssh_options=[*server.options, "-o", "StrictHostKeyChecking=yes"]).run("touch ran")
    await pod.remote().run("true")
    known = (state / "known_hosts").read_text(encoding="ascii")
    assert known.startswith("pod1 ssh-ed25519 ")
    server.stop()
    make_key(server.folder / "host_key")
    server.start()
    with pytest.raises(primepods.LoginError, match=r"another host key.*ssh-keygen -R pod1 -f") as told:
        await pod.remote().run("touch ran")
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in told.value.said
    other = AsyncRemote("pod2", pod.nodes, pod.remote()._options)
    assert (await other.run("echo in")).stdout == "in\n"
    assert list(server.home.iterdir()) == []


@pytest.mark.parametrize("given", [None, "input"])
async def test_a_command_whose_connection_is_lost_is_told_and_ends(
    server: SSHServer, openssh: Pod, given: str | None
) -> None:
    """It is not taken for an exit code of the command's, and not run again."""
    line = "echo begun >> ran; echo $$; sleep 300"
    with pytest.raises(primepods.ConnectionLostError, match="may have finished") as told:
        await openssh.remote().run(line, input=given, on_line=lambda _: server.cut())
    await eventually_ended(int(told.value.stdout))
    assert (openssh.home / "ran").read_text(encoding="ascii") == "begun\n"


async def test_a_copy_whose_connection_is_lost_leaves_all_as_it_was(
    server: SSHServer, openssh: Pod, tmp_path: Path
) -> None:
    """Both ways; what has come is removed."""
    (tmp_path / "new").mkdir()
    with (tmp_path / "new" / "big").open("wb") as big:
        big.truncate(20 << 30)  # a file that is all hole
    folders = (openssh.home / "old", tmp_path / "old")
    for folder in folders:
        folder.mkdir()
        (folder / "big").write_text("old", encoding="utf-8")
    remote = openssh.remote()
    for copy in (
        remote.upload(tmp_path / "new", "old", on_progress=lambda done: server.cut()),
        remote.download(str(tmp_path / "new"), tmp_path / "old", on_progress=lambda done: server.cut()),
    ):
        with pytest.raises(primepods.ConnectionLostError, match="the target is unchanged"):
            await copy
    await eventually(lambda: all([path.name for path in folder.iterdir()] == ["big"] for folder in folders))
    for folder in folders:
        assert (folder / "big").read_text(encoding="utf-8") == "old"


async def test_an_option_that_there_is_not_is_told_at_once(openssh: Pod) -> None:
    """Another attempt would end the same way."""
    for option, said in (
        ("NoSuchOption=yes", "nosuchoption"),
        ("UserKnownHostsFile=/x/%Z", "unknown key %Z"),
        ("IdentityFile=/x/%Z", "unknown key %Z"),
    ):
        with pytest.raises(primepods.ConfigError, match=rf"Change ssh_options.*{said}"):
            await openssh.remote(ssh_options=["-o", option, *openssh.ssh["ssh_options"]]).run("true")


@pytest.mark.parametrize("given", [None, b"x" * 3_000_000], ids=["no input", "input that is not read"])
async def test_a_command_ends_with_its_client(openssh: Pod, given: bytes | None) -> None:
    """Also a client that gets SIGKILL and so can end nothing: the command ends on the pod, and ssh here."""
    program = (
        "import anyio, primepods, sys\n"
        "from primepods.remote import AsyncRemote, SSHOptions\n"
        f"remote = AsyncRemote('pod1', (primepods.Node(ip=None, ssh=primepods.{openssh.target!r}),),"
        f" SSHOptions(ssh_options={openssh.ssh['ssh_options']!r}))\n"
        "async def main():\n"
        "    given = None if sys.argv[1] == '0' else bytes(int(sys.argv[1]))\n"
        "    await remote.run('echo $$ > pid; sleep 300', input=given)\n"
        "anyio.run(main)\n"
    )
    words = [sys.executable, "-c", program, str(len(given or b""))]
    client = await asyncio.create_subprocess_exec(*words)
    pid = await read_pid(openssh.home / "pid")
    own = children(client.pid)
    assert own
    client.kill()
    await client.wait()
    await eventually_ended(pid, *own)


async def test_ssh_knows_the_host_keys_of_the_library(server: SSHServer, openssh: Pod) -> None:
    """One name and one file: a pod at the address of an earlier one is logged in to, and checked."""
    settings = host_key_settings("pod1")
    words = openssh.target.argv(*openssh.ssh["ssh_options"], "-o", "BatchMode=yes", command="echo in")
    host_keys = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    argv = [*words[:3], *host_keys, *words[3:]]
    await openssh.remote().run("true")
    done = await anyio.run_process(argv)
    assert done.stdout == b"in\n"
    server.stop()
    make_key(server.folder / "host_key")
    server.start()
    done = await anyio.run_process(argv, check=False)
    assert b"REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


async def test_where_ssh_cannot_be_started_nobody_is_told_to_install_it(openssh: Pod) -> None:
    """A process without free descriptors is told that it lacks resources."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    remote = openssh.remote()
    await remote.run("true")
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest_descriptor() + 1, limits[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            # There may be free ones below the highest.
            while True:
                taken.append(os.dup(1))
        with pytest.raises(primepods.ConfigError, match="too few resources") as told:
            await remote.run("true")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)
    assert "install" not in str(told.value)


@pytest.mark.parametrize("name", ["100%", "%h", "a b"])
async def test_odd_folders_keep_host_keys(
    openssh: Pod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """What ssh would expand in a path is escaped."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / name))
    await openssh.remote().run("true")
    assert (tmp_path / name / "known_hosts").read_text(encoding="ascii").startswith("pod1 ssh-ed25519 ")


@pytest.mark.parametrize("name", ['"', "${HOME}", "a\\b", "a\nb", "known"])
async def test_where_host_keys_cannot_be_kept_nothing_is_sent(
    openssh: Pod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Else any host key would be accepted at every login: a path that ssh cannot read, a file in the way."""
    (tmp_path / "known" / "known_hosts").mkdir(parents=True)
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / name))
    with pytest.raises(primepods.ConfigError, match="PRIMEPODS_STATE_DIR"):
        await openssh.remote().run("touch ran")
    assert list(openssh.home.iterdir()) == []


async def test_the_users_own_options_win(openssh: Pod, tmp_path: Path, state: Path) -> None:
    """Such as another file of known hosts."""
    own = tmp_path / "own hosts"
    options = [*openssh.ssh["ssh_options"], "-o", f'UserKnownHostsFile="{own}"']
    await openssh.remote(ssh_options=options).run("true")
    assert own.exists()
    assert not (state / "known_hosts").read_text(encoding="ascii")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_big_file_is_streamed_in_little_memory(openssh: Pod, tmp_path: Path) -> None:
    """200 MB both ways, and as a command's output: under 100 MB more than before."""
    size = 200_000_000
    before = high_water()
    with (tmp_path / "big").open("wb") as big:
        big.truncate(size)
    remote = openssh.remote()
    await remote.upload(tmp_path / "big", "big")
    await remote.download("big", tmp_path / "again")
    assert (tmp_path / "again").stat().st_size == size
    count = 0

    def on_line(line: primepods.OutputLine) -> None:
        nonlocal count
        count += len(line.text)

    result = await remote.run("tr '\\0' x < big", on_line=on_line)
    assert (count, result.is_truncated) == (size, True)
    assert high_water() - before < 100 << 20


def highest_descriptor() -> int:
    """The highest file descriptor of this process."""
    return max(int(path.name) for path in Path("/proc/self/fd").iterdir())


def high_water() -> int:
    """The most memory that this process has had."""
    status = Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
