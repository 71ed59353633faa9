"""``pods.remote`` of both clients, on an emulated API whose pods can be logged in to."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import primepods
from primepods.emulator import Emulator
from primepods.remote import SSHOptions

from .conftest import LOCAL_SSH


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pods' homes are the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An API with a pod that is ready and one that is not."""
    with Emulator(boot_seconds=0) as emulator:
        emulator.add_pod(id="ready")
        emulator.add_pod(id="booting", boot_seconds=1_000)
        yield emulator


def test_the_program_in_place_of_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line or words; the variable is for the default only, also when options are copied."""
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", "other -4")
    assert SSHOptions().ssh_command == SSHOptions(ssh_command="ssh").ssh_command == ("other", "-4")
    given = SSHOptions(ssh_command=("dbclient", "a b"))
    assert given.ssh_command == attrs.evolve(given, login_timeout=5.0).ssh_command == ("dbclient", "a b")
    for wrong in ((), " ", "'"):
        with pytest.raises(ValueError, match=r"^ssh_command must be "):
            SSHOptions(ssh_command=wrong)


async def test_a_pod_is_found_by_its_id_and_asked_for_once(emulator: Emulator) -> None:
    """Nothing is sent until something is run; then its address is asked for, one time."""
    async with primepods.AsyncClient(emulator.api_key, base_url=emulator.url) as client:
        remote = client.pods.remote("ready", ssh_command=LOCAL_SSH)
        assert (remote.pod_id, repr(remote), len(emulator.requests)) == ("ready", "<AsyncRemote ready>", 0)
        assert (await remote.run("echo 1")).stdout == "1\n"
        assert (await remote.run("echo 2")).stdout == "2\n"
        assert len(emulator.requests) == 1


async def test_a_pod_without_an_address_is_told(emulator: Emulator) -> None:
    """With what to wait for."""
    async with primepods.AsyncClient(emulator.api_key, base_url=emulator.url) as client:
        with pytest.raises(primepods.LoginError, match=r"no address.*wait_ready"):
            await client.pods.remote("booting").run("true")
        with pytest.raises(primepods.NotFoundError):
            await client.pods.remote("unknown").run("true")


def test_the_blocking_client_does_the_same(emulator: Emulator, tmp_path: Path) -> None:
    """Callbacks run in the calling thread, and must be plain functions."""
    threads: set[threading.Thread] = set()
    lines: list[str] = []

    def on_line(line: primepods.OutputLine) -> None:
        threads.add(threading.current_thread())
        lines.append(str(line))

    async def awaited(_: primepods.OutputLine) -> None:
        raise AssertionError

    with primepods.Client(emulator.api_key, base_url=emulator.url) as client:
        remote = client.pods.remote(client.pods.get("ready"), ssh_command=LOCAL_SSH)
        assert repr(remote) == "<Remote ready>"
        assert remote.run("echo a; echo b", on_line=on_line).exit_code == 0
        (tmp_path / "file").write_text("x", encoding="utf-8")
        remote.upload(tmp_path / "file", "there")
        remote.download("there", tmp_path / "back")
        assert (tmp_path / "back").read_text(encoding="utf-8") == "x"
        with pytest.raises(TypeError, match="on_line of the blocking client must be a plain function"):
            remote.run("echo a", on_line=awaited)
    assert (lines, threads) == (["a", "b"], {threading.current_thread()})


def test_a_client_that_is_closed_ends_its_commands(emulator: Emulator, tmp_path: Path) -> None:
    """Also on the pod."""
    client = primepods.Client(emulator.api_key, base_url=emulator.url)
    remote = client.pods.remote("ready", ssh_command=LOCAL_SSH)
    mark = tmp_path / "begun"

    def close() -> None:
        _wait_for(mark)
        client.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(primepods.ClientClosedError):
        remote.run(f"touch '{mark}'; trap 'rm {mark}; exit' TERM; while :; do sleep 0.1; done")
    closer.join()
    _wait_for(mark, gone=True)


def _wait_for(file: Path, *, gone: bool = False) -> None:
    ends_at = time.monotonic() + 60
    while file.exists() == gone:
        assert time.monotonic() < ends_at
        time.sleep(0.05)


async def test_a_leased_pod_can_be_worked_on(emulator: Emulator, tmp_path: Path) -> None:
    """With the options of its lease; it is gone afterwards."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    async with primepods.AsyncClient(emulator.api_key, base_url=emulator.url) as client:
        spec = primepods.PodSpec.from_offer(await client.availability.cheapest())
        async with client.pods.lease(spec, login=True, ssh_command=LOCAL_SSH, interval=0.05) as pod:
            await pod.upload(tmp_path / "file", "there")
            assert (await pod.run("cat there")).stdout == "x"
            await pod.download("there", tmp_path / "back")
        assert pod.id not in emulator.pods
    assert (tmp_path / "back").exists()
