"""The watchdog of a pod: its script under each shell with each program for HTTP, and leases that have one."""

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

import primepods
from primepods.config import lease_folder
from primepods.emulator import Delay, Edit, Emulator, Html, Reset, Status
from primepods.leasing.ledger import LeaseFile, read_ledger
from primepods.remote._job_scripts import start_script
from primepods.remote._scripts import bootstrap, command_script, make_script
from primepods.runs import take_over_lease
from tests.support.eventually import wait_for

from .conftest import LOCAL_SSH, busybox
from .sshd import SSHServer, children

KEY = "watchdog-key-0123456789"
TOOLS = "cat date find grep head mkdir mv rm sed setsid sleep tail touch tr"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An API with one pod, and its key."""
    with Emulator(boot_seconds=0, delete_seconds=0, api_key=KEY) as running:
        running.add_pod(id="pod1")
        yield running


_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("bash", "busybox")]


@pytest.fixture(params=["dash", *_SLOW])
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The programs of a pod, without any for HTTP."""
    folder = tmp_path / "tools"
    if request.param == "busybox":
        busybox(folder)
        (folder / "wget").unlink()
        return folder
    folder.mkdir()
    for name in TOOLS.split():
        (folder / name).symlink_to(str(shutil.which(name)))
    program = shutil.which(str(request.param))
    if program is None:
        pytest.skip(f"{request.param} is not installed here")
    (folder / "sh").symlink_to(program)
    return folder


def add_program(tools: Path, name: str) -> None:
    """Give the pod a program for HTTP."""
    program = sys.executable if name == "python3" else shutil.which(name)
    (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(program or name)} "$@"\n', encoding="utf-8")
    (tools / name).chmod(0o755)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The home directory of the pod's user; its watchdog ends with the test."""
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    for file in folder.glob(".primepods/watchdog/*/on"):
        for pid in file.read_text(encoding="ascii").split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def start(
    tools: Path,
    home: Path,
    url: str,
    *,
    limit: int = 3600,
    after_job: int = 3600,
    idle: str = "",
    key: str = KEY,
) -> subprocess.CompletedProcess[bytes]:
    """Start the watchdog as over a connection, which then ends."""
    numbers = (str(limit), str(after_job), idle, "1", key)
    script = make_script("watchdog.sh", f"{url}/api/v1/pods/pod1", "pod1", "", *numbers)
    return subprocess.run(
        ["/bin/sh", "-c", bootstrap("mark")],
        input=script,
        capture_output=True,
        cwd=home,
        env={"PATH": str(tools), "primepods_key": "x"},
        check=False,
        timeout=60,
    )


def read(pattern: str) -> bytes:
    """All that the files of a pattern have, of those that can be read."""
    found = b""
    for path in Path("/proc").glob(pattern):
        try:
            found += path.read_bytes()
        except OSError:
            continue
    return found


@pytest.mark.parametrize("program", ["curl", "wget", "python3"])
def test_the_pod_goes_at_its_limit_and_nothing_shows_the_key(
    tools: Path, home: Path, emulator: Emulator, program: str
) -> None:
    """With any of the programs: no argument, environment, file or log has it while requests are under way."""
    add_program(tools, program)
    emulator.faults.add(Delay(0.5))
    shown = b""
    is_over = threading.Event()

    def look() -> None:
        nonlocal shown
        while not is_over.wait(0.02):
            shown += read("[0-9]*/cmdline") + read("[0-9]*/environ")
            shown += b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        done = start(tools, home, emulator.url, limit=3)
        assert (done.returncode, done.stderr) == (0, b"mark ready\nmark exit 0\n")
        wait_for(lambda: not emulator.pods)
    finally:
        is_over.set()
        looking.join()
    # An interpreter may have another name, so that its options are what is seen of it.
    assert (b"\0-I\0-c\0" if program == "python3" else program.encode()) in shown
    assert KEY.encode() not in shown
    state = home / ".primepods/watchdog/pod1"
    wait_for((state / "off").exists)
    # The process that looks at the work may see first that the pod is gone.
    wait_for(lambda: "DELETE: 200\n" in (state / "log").read_text(encoding="utf-8"))
    assert "The limit is reached.\n" in (state / "log").read_text(encoding="utf-8")
    assert {file.name for file in state.iterdir()} == {"log", "off", "on"}
    assert {request.path for request in emulator.requests} == {"/api/v1/pods/pod1"}


@pytest.fixture
def curl(tools: Path) -> Path:
    """The programs of a pod with curl."""
    add_program(tools, "curl")
    return tools


def log(home: Path) -> str:
    """The watchdog's log."""
    return (home / ".primepods/watchdog/pod1/log").read_text(encoding="utf-8")


def run(tools: Path, home: Path, script: bytes) -> str:
    """What another connection prints."""
    words = ["/bin/sh", "-c", bootstrap("other")]
    env = {"PATH": str(tools)}
    done = subprocess.run(words, input=script, capture_output=True, cwd=home, env=env, check=True, timeout=60)
    return done.stdout.decode()


def test_what_is_not_the_apis_word_ends_nothing(curl: Path, home: Path, emulator: Emulator) -> None:
    """It is sent again: pages of proxies, errors, a way that is cut, and a 404 that comes once."""
    (curl / "sleep").unlink()
    (curl / "sleep").write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 0.2\n", encoding="utf-8")
    (curl / "sleep").chmod(0o755)
    faults = (Reset(), Html(404), Html(200), Status(503), Status(403), Status(404))
    for fault in faults:
        emulator.faults.add(fault, on="delete", times=1)
    start(curl, home, emulator.url, limit=1)
    wait_for(lambda: not emulator.pods)
    assert len([request for request in emulator.requests if request.method == "DELETE"]) == len(faults) + 1


def test_a_pod_that_is_gone_ends_it(curl: Path, home: Path, emulator: Emulator) -> None:
    """By the API's own 404, twice; a start that is sent again starts no second one."""
    emulator.faults.add(Status(404), on="delete", times=4)
    for _ in range(2):
        assert start(curl, home, emulator.url, limit=1).returncode == 0
    wait_for((home / ".primepods/watchdog/pod1/off").exists)
    assert [request.status for request in emulator.requests if request.method == "DELETE"] == [404, 404]


def test_a_pod_goes_some_time_after_its_last_job(curl: Path, home: Path, emulator: Emulator) -> None:
    """Not while a job runs, nor while a connection is open; an old job, of another pod, does not count."""
    run(curl, home, start_script("true", name="old", token="t", env={}, cwd=None))
    start(curl, home, emulator.url, after_job=1)
    assert_stays(emulator, 3)
    run(
        curl,
        home,
        start_script("until [ -e go ]; do sleep 0.1; done", name="new", token="t", env={}, cwd=None),
    )
    with connection(curl, home, command_script("cat go2", env={}, cwd=None, input_size=1)):
        assert_stays(emulator, 3)
        (home / "go").touch()
        assert_stays(emulator, 3)
    wait_for(lambda: not emulator.pods)
    assert "The last job ended" in log(home)


def test_a_pod_goes_when_its_gpus_are_idle(curl: Path, home: Path, emulator: Emulator) -> None:
    """All of them; without nvidia-smi, or with one that does not tell, it is refused at the start."""
    done = start(curl, home, emulator.url, idle="2")
    assert (done.returncode, b"does not tell" in done.stderr) == (1, True)
    loads = home / "loads"
    (curl / "nvidia-smi").write_text(f"#!/bin/sh\ncat {loads}\n", encoding="utf-8")
    (curl / "nvidia-smi").chmod(0o755)
    loads.write_text("0\n[N/A]\n", encoding="ascii")
    assert start(curl, home, emulator.url, idle="2").returncode == 1
    loads.write_text("0\n6\n", encoding="ascii")
    assert start(curl, home, emulator.url, idle="1").returncode == 0
    assert_stays(emulator, 3)
    loads.write_text("0\n5\n", encoding="ascii")
    wait_for(lambda: not emulator.pods)
    assert "No GPU was above 5 % for 1 s." in log(home)


def test_what_cannot_work_is_told_at_the_start(tools: Path, home: Path, emulator: Emulator) -> None:
    """A pod without a program for HTTP, an API out of reach, and a key that may not read the pod."""
    assert b"no curl, GNU wget or python3" in start(tools, home, emulator.url).stderr
    add_program(tools, "curl")
    key = emulator.add_api_key({"disks": {"read": True}})
    assert (
        start(tools, home, emulator.url, key=key).returncode,
        start(tools, home, emulator.url, key="x").returncode,
    ) == (3, 3)
    assert not list(home.glob(".primepods/watchdog/pod1"))


@contextmanager
def connection(tools: Path, home: Path, script: bytes) -> Generator[None]:
    """Another connection, which is open in the block."""
    words = ["/bin/sh", "-c", bootstrap("other")]
    with subprocess.Popen(words, stdin=-1, stdout=-1, cwd=home, env={"PATH": str(tools)}) as process:
        assert process.stdin is not None
        process.stdin.write(script)
        process.stdin.flush()
        yield


def assert_stays(emulator: Emulator, seconds: float) -> None:
    """The pod is there all the time."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        assert emulator.pods
        time.sleep(0.1)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    """An API whose pods are folders of the test, and whose watchdog has a key of its own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Emulator(boot_seconds=0, delete_seconds=0) as running:
        key = running.add_api_key({"instances": {"read": True, "write": True}})
        monkeypatch.setenv("PRIMEPODS_WATCHDOG_KEY", key)
        yield running
    for file in tmp_path.glob("*/*/.primepods/watchdog/*/on"):
        for pid in file.read_text(encoding="ascii").split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def lease(client: Any, spec: primepods.PodSpec, **options: Any) -> Any:
    """A lease whose pods are folders of this machine."""
    defaults = {"login": True, "max_hours": 1.0, "ssh_command": LOCAL_SSH, "interval": 0.05}
    return client.pods.lease(spec, **defaults | options)


def first_offer(client: primepods.Client) -> primepods.PodSpec:
    """An order."""
    return primepods.PodSpec.from_offer(next(iter(client.availability.gpus())))


async def test_a_lease_whose_pod_went_so_says_when_and_why(own: Emulator) -> None:
    """The block is cancelled, and raises it; the lease leaves nothing to sweep.

    The end of another pod is in the history, too.
    """

    def add_another(data: Any) -> Any:
        rows = data["data"]
        others = [row | {"id": "another", "terminatedAt": "2024-01-01T00:00:00Z"} for row in rows[:1]]
        return data | {"data": [*rows, *others], "total_count": len(rows + others)}

    own.faults.add(Edit(add_another), on="history")
    async with primepods.AsyncClient(own.api_key, base_url=own.url) as client:
        spec = primepods.PodSpec.from_offer((await client.availability.find(gpu_type="H100"))[0])
        gone = pytest.raises(
            primepods.PodFailedError, match=r"deleted at 20(?!24).* UTC, .*\(1 s after its last job\)"
        )
        with gone:
            async with lease(client, spec, watchdog=primepods.Watchdog(after_job=1)) as pod:
                await pod.start("true")
                await asyncio.sleep(60)
        assert not (await client.pods.sweep(dry_run=True)).found


def test_the_blocking_client_has_the_same(own: Emulator) -> None:
    """A call on the pod raises it, or the end of the block; a pod that is gone has no status."""
    with primepods.Client(own.api_key, base_url=own.url) as client:
        watchdog = primepods.Watchdog(after_job=1)
        gone = pytest.raises(primepods.PodFailedError, match="its watchdog")
        with gone, lease(client, first_offer(client), watchdog=watchdog) as pod:
            pod.start("true")
            wait_for(lambda: not own.pods)
        with gone, lease(client, first_offer(client), watchdog=watchdog) as pod:
            threading.Timer(0.5, own.delete_pod, [pod.id]).start()
            with pytest.raises(primepods.PodFailedError, match="or from elsewhere") as caught:
                pod.run("sleep 60")
            assert (caught.value.last, caught.value.statuses) == (pod.status, {})


def test_a_watchdog_says_why_it_may_delete_its_pod() -> None:
    """A phrase also where it waits for nothing but the limit."""
    at_its_limit = primepods.Watchdog(after_job=None)
    assert at_its_limit.reasons == "at its limit"
    assert attrs.evolve(at_its_limit, idle=60).reasons == "no GPU was above 5 % for 60 s"


def test_a_kept_pod_has_no_watchdog_any_more(own: Emulator, tmp_path: Path) -> None:
    """At the end of the block it is ended; a lease that works ends its pod as ever."""
    with primepods.Client(own.api_key, base_url=own.url) as client:
        with lease(client, first_offer(client), watchdog=primepods.Watchdog()) as pod:
            pod.keep()
        assert list(tmp_path.glob("*/*/.primepods/watchdog/*/off"))
        assert list(own.pods) == [pod.id]
        with lease(client, first_offer(client), watchdog=primepods.Watchdog()) as pod:
            assert len(own.pods) == 2
        assert len(own.pods) == 1


async def test_a_pod_that_is_taken_over_and_kept_has_no_watchdog_any_more(
    own: Emulator, tmp_path: Path
) -> None:
    """The process that takes it over knows of none, and ends it all the same."""
    async with primepods.AsyncClient(own.api_key, base_url=own.url) as client:
        spec = primepods.PodSpec.from_offer((await client.availability.find(gpu_type="H100"))[0])
        async with lease(client, spec, watchdog=primepods.Watchdog()):
            [record] = read_ledger(lease_folder()).records.values()
            file = LeaseFile.new(lease_folder(), attrs.evolve(record, given_up=True)).write()
            file.close()
            options = {"login": True, "ssh_command": LOCAL_SSH, "interval": 0.05}
            taken = take_over_lease(client, file.path.name, was_shown=True, **options)
            assert taken is not None
            async with taken as pod:
                pod.keep()
            assert list(tmp_path.glob("*/*/.primepods/watchdog/*/off"))


@pytest.mark.parametrize(
    ("scope", "match", "orders"),
    [
        ({"instances": {"read": True, "write": False}}, "may not delete pods", 0),
        ({"instances": None}, "cannot read pod .* from there: GET got 403", 1),
        (None, "is not accepted by the API", 0),
    ],
)
def test_a_key_that_cannot_is_told_before_the_work(
    own: Emulator, monkeypatch: pytest.MonkeyPatch, scope: dict[str, Any] | None, match: str, orders: int
) -> None:
    """Before an order if the API tells its permissions, else before the block; the pod goes."""
    key = "unknown-key" if scope is None else own.add_api_key(scope)
    monkeypatch.setenv("PRIMEPODS_WATCHDOG_KEY", key)
    with primepods.Client(own.api_key, base_url=own.url) as client:
        offer = first_offer(client)
        watched = lease(client, offer, watchdog=primepods.Watchdog())
        with pytest.raises(primepods.ConfigError, match=match), watched:
            pytest.fail("the block has begun")
    assert (len([it for it in own.requests if it.method == "POST"]), len(own.pods)) == (orders, 0)


def test_the_clients_key_goes_to_no_pod_unless_that_is_said(
    own: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the variable either; without a key, a login or a limit nothing is rented."""
    with primepods.Client(own.api_key, base_url=own.url) as client:
        spec = first_offer(client)
        for given in ({"login": False}, {"max_hours": None}):
            with pytest.raises(ValueError, match=r"watchdog (must have login=True|needs)"):
                lease(client, spec, watchdog=primepods.Watchdog(), **given)
        for name, key in (("own key", own.api_key), ("a quote", 'a"b'), ("no key", " ")):
            monkeypatch.setenv("PRIMEPODS_WATCHDOG_KEY", key)
            with pytest.raises(primepods.ConfigError, match=name.replace("own key", "is the client's own")):
                lease(client, spec, watchdog=primepods.Watchdog())
        own_key = primepods.Watchdog("own")
        assert own.api_key not in repr(lease(client, spec, watchdog=own_key)._lease.supervisor.options)
        with lease(client, spec, watchdog=own_key) as pod:
            assert pod.run("echo in").stdout == "in\n"


PROGRAM = """
import os, sys, primepods
url, key, hours, after_job = sys.argv[1:]
with primepods.Client(key, base_url=url) as client:
    spec = primepods.PodSpec.from_offer(next(iter(client.availability.gpus())))
    watchdog = primepods.Watchdog(after_job=float(after_job))
    with client.pods.lease(spec, login=True, max_hours=float(hours), watchdog=watchdog, interval=0.05) as pod:
        print(pod.id, flush=True)
        for line in pod.start("echo begun; until [ -e go ]; do sleep 0.1; done").output():
            print(line, flush=True)
        input()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "asleep"])
@pytest.mark.parametrize("end", ["limit", "job"])
def test_a_pod_goes_without_its_client(
    server: SSHServer, own: Emulator, monkeypatch: pytest.MonkeyPatch, number: int, end: str
) -> None:
    """At its limit and after its work, on a real server: the client is killed, or its machine sleeps."""
    server.start()
    options = f"-o HostName=127.0.0.1 -o Port={server.target.port} -o User={server.target.user}"
    monkeypatch.setenv(
        "PRIMEPODS_SSH_COMMAND", f"sh -c 'exec ssh {options} \"$@\"' ssh {shlex.join(server.options)}"
    )
    hours, after_job = ("0.008", "3600") if end == "limit" else ("1", "1")
    argv = [sys.executable, "-c", PROGRAM, own.url, own.api_key, hours, after_job]
    with subprocess.Popen(argv, stdin=-1, stdout=-1) as client:
        assert client.stdout is not None
        pod_id = client.stdout.readline().decode().strip()
        assert client.stdout.readline() == b"begun\n"
        assert list(own.pods) == [pod_id]
        pids = [client.pid, *children(client.pid)]
        try:
            for pid in pids:
                os.kill(pid, number)
            own.faults.add(Reset(), on="delete", times=4)
            if end == "job":
                (server.home / "go").touch()
            wait_for((server.home / f".primepods/watchdog/{pod_id}/off").exists)
            assert not own.pods
        finally:
            (server.home / "go").touch()  # the job outlives its client and its watchdog
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for file in server.home.glob(".primepods/watchdog/*/on"):
                for word in file.read_text(encoding="ascii").split():
                    with suppress(ProcessLookupError):
                        os.kill(int(word), signal.SIGKILL)
    log = (server.home / f".primepods/watchdog/{pod_id}/log").read_text(encoding="utf-8")
    assert ("The limit is reached" if end == "limit" else "The last job ended") in log
    assert "DELETE: no response" in log
