"""`exit_on_sigterm`: a process that is told to end gives its pods back."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import primepods
from primepods.emulator import Emulator, ManualClock
from tests.renting.test_ctrl_c import wait_for_delete
from tests.support.processes import Process, start_python

BLOCKING = """
with primepods.exit_on_sigterm(), primepods.Client() as client:
    spec = primepods.PodSpec.from_offer(client.availability.cheapest())
    with client.pods.lease(spec, interval=0.05) as pod:
        print("leased", flush=True)
        time.sleep(60)
print("went on", flush=True)
"""
ASYNC = """
async def main():
    async with primepods.AsyncClient() as client:
        spec = primepods.PodSpec.from_offer(await client.availability.cheapest())
        async with client.pods.lease(spec, interval=0.05) as pod:
            print("leased", flush=True)
            await asyncio.sleep(60)
"""
OUTSIDE = (
    ASYNC
    + """
with primepods.exit_on_sigterm():
    asyncio.run(main())
print("went on", flush=True)
"""
)
INSIDE = (
    ASYNC
    + """
async def outer():
    with primepods.exit_on_sigterm():
        await main()
    print("went on", flush=True)
asyncio.run(outer())
"""
)
IGNORED = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An API whose pods are ready at once, and are deleted after a moment."""
    with Emulator(boot_seconds=0, delete_seconds=0.3) as emulator:
        yield emulator


def start(emulator: Emulator, script: str, folder: Path) -> Process:
    """Run a script that has a client of the emulator."""
    environment = {
        "PRIME_API_KEY": emulator.api_key,
        "PRIME_API_BASE_URL": emulator.url,
        "PRIMEPODS_STATE_DIR": str(folder / "state"),
    }
    imports = "import asyncio, signal, time\nimport primepods\n"
    return start_python("-c", imports + script, environment=environment)


@pytest.mark.parametrize(
    "before", ["", pytest.param(IGNORED, marks=pytest.mark.slow)], ids=["", "without Ctrl-C"]
)
@pytest.mark.parametrize(
    "script",
    [BLOCKING, OUTSIDE, pytest.param(INSIDE, marks=pytest.mark.slow)],
    ids=["blocking", "outside", "inside"],
)
def test_a_signal_leaves_every_block(emulator: Emulator, tmp_path: Path, script: str, before: str) -> None:
    """The pod is gone before the process is, which ends as shells say of such a signal, without words."""
    with start(emulator, before + script, tmp_path) as process:
        assert process.line() == "leased"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (143, "")
        # Where asyncio's main task is not known, all are cancelled, and a lease says so.
        assert not err or (script, before) == (OUTSIDE, IGNORED)
    assert not emulator.pods
    assert not list((tmp_path / "state").glob("*.json"))


@pytest.mark.slow
def test_further_signals_change_nothing(tmp_path: Path) -> None:
    """A terminal that goes away sends more than one; they do not hurry the release."""
    with (
        Emulator(boot_seconds=0, delete_seconds=60, clock=ManualClock()) as emulator,
        start(emulator, BLOCKING, tmp_path) as process,
    ):
        process.line()
        process.send_signal(signal.SIGHUP)
        wait_for_delete(emulator)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        emulator.advance(60)
        process.communicate(timeout=60)
        assert process.returncode == 129
        assert not emulator.pods


@pytest.mark.slow
def test_without_it_a_signal_leaves_a_pod_behind(emulator: Emulator, tmp_path: Path) -> None:
    """Which is why it is there."""
    with start(emulator, BLOCKING.replace("primepods.exit_on_sigterm(), ", ""), tmp_path) as process:
        process.line()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGTERM
    assert len(emulator.pods) == 1


def test_a_handler_that_python_did_not_install_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be restored: `signal.signal` does not accept the `None` that stands for it."""
    before = {
        signal.SIGTERM: signal.getsignal(signal.SIGTERM),
        signal.SIGHUP: signal.getsignal(signal.SIGHUP),
    }
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    with primepods.exit_on_sigterm():
        monkeypatch.undo()
        assert {number: signal.getsignal(number) for number in before} == before


def test_handlers_are_restored_and_what_is_ignored_stays_so() -> None:
    """Also after an exception, and when nested."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    found = signal.getsignal(signal.SIGTERM)
    try:
        with suppress(LookupError), primepods.exit_on_sigterm(), primepods.exit_on_sigterm():
            assert signal.getsignal(signal.SIGTERM) is not found
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            raise LookupError
        assert signal.getsignal(signal.SIGTERM) is found
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_exit_carries_the_notes_of_what_was_interrupted() -> None:
    """Such as that a pod may be billed; what was not caused by a signal passes as it is."""

    @contextmanager
    def lease() -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt as exc:
            exc.add_note("a pod may be billed")
            raise

    with pytest.raises(SystemExit) as told, primepods.exit_on_sigterm(), lease():
        os.kill(os.getpid(), signal.SIGTERM)
    assert (told.value.code, told.value.__notes__) == (143, ["a pod may be billed"])
    with pytest.raises(asyncio.CancelledError), primepods.exit_on_sigterm():
        raise asyncio.CancelledError


def test_a_block_that_handles_it_goes_on() -> None:
    """As with Ctrl-C; the process ends at the end of the block."""
    went_on: list[bool] = []

    def handle() -> None:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        went_on.append(True)

    with pytest.raises(SystemExit), primepods.exit_on_sigterm():
        handle()
    assert went_on


def test_other_threads_are_refused() -> None:
    """They get no signals."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with primepods.exit_on_sigterm():
                pass
        except RuntimeError as exc:
            errors.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])
