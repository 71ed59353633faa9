"""Ctrl-C while pods are released in the main thread's event loop: noted, and raised at the end."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from primepods.emulator import Emulator, Status
from tests.renting.stage import lease_files
from tests.renting.test_processes import leasing

pytestmark = pytest.mark.slow

BUSY = """
    import asyncio, os, signal, sys, primepods
    from tests.renting.child import spec_from_environment

    async def busy():
        try:
            while True:
                await asyncio.sleep(0)
        except KeyboardInterrupt:
            print("raised in a task", flush=True)
            raise

    async def main():
        task = asyncio.create_task(busy())
        async with primepods.AsyncClient() as client:
            async with client.pods.lease(spec_from_environment(), interval=0.05) as pod:
                print("ready", flush=True)
                await asyncio.sleep(60)

    asyncio.run(main())
"""

OWN_LOOP = """
    import asyncio, primepods
    from tests.renting.child import spec_from_environment

    async def main():
        async with primepods.AsyncClient() as client:
            async with client.pods.lease(spec_from_environment(), interval=0.05):
                print("ready", flush=True)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    except KeyboardInterrupt:
        print("raised at the end", flush=True)
    loop.close()
"""

FORKED = """
    import asyncio, os, signal, sys, time, primepods
    from tests.renting.child import spec_from_environment

    def child():
        try:
            # asyncio's handler only cancels the main task at the first.
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(1)

    async def fork():
        await asyncio.sleep(0.2)
        pid = os.fork()
        if pid == 0:
            child()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    async def main():
        async with primepods.AsyncClient() as client:
            async with client.pods.lease(spec_from_environment(), interval=0.05):
                task = asyncio.create_task(fork())
        print(task.done() and task.result(), flush=True)

    asyncio.run(main())
"""

HANDLERS = """
    import asyncio, signal, primepods
    from tests.renting.child import spec_from_environment

    async def main():
        async with primepods.AsyncClient() as client:
            before = signal.getsignal(signal.SIGINT)
            async with client.pods.lease(spec_from_environment(), interval=0.05):
                pass
            print(signal.getsignal(signal.SIGINT) is before)
            async with client.pods.lease(spec_from_environment(), interval=0.05):
                signal.signal(signal.SIGINT, lambda *args: print("ours"))
                asyncio.get_running_loop().call_later(0.2, signal.raise_signal, signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

            def chain():
                before = signal.getsignal(signal.SIGINT)
                signal.signal(signal.SIGINT, lambda *args: (print("chained"), before(*args)))

            async with client.pods.lease(spec_from_environment(), interval=0.05):
                asyncio.get_running_loop().call_later(0.2, chain)
            async with client.pods.lease(spec_from_environment(), interval=0.05):
                asyncio.get_running_loop().call_later(0.2, signal.raise_signal, signal.SIGINT)

    asyncio.run(main())
"""

BLOCKED = """
    import asyncio, time, primepods
    from tests.renting.child import spec_from_environment

    async def main():
        async with primepods.AsyncClient() as client:
            lease = client.pods.lease(spec_from_environment(), interval=0.05)
            await lease.__aenter__()
            releasing = asyncio.create_task(lease.__aexit__(None, None, None))
            await asyncio.sleep(0.1)
            print("blocked", flush=True)
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                print("raised", flush=True)
                raise

    asyncio.run(main())
"""


def wait_for_delete(emulator: Emulator) -> None:
    """Return when the release has begun."""
    while not emulator.requests.where(method="DELETE"):
        time.sleep(0.01)


def test_ctrl_c_is_raised_in_no_task_while_releasing(folder: Path) -> None:
    """Where it is raised by chance, an answer may be lost, and the task that awaits it hangs."""
    with leasing(folder, BUSY, boot_seconds=0, delete_seconds=0.5) as (emulator, running):
        assert running.line() == "ready"
        emulator.faults.add(Status(503), on="delete", times=2)
        running.send_signal(signal.SIGINT)
        wait_for_delete(emulator)
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=100)
        assert (output, "KeyboardInterrupt" in errors) == ("", True)
        assert (len(emulator.pods), list(lease_files(folder))) == (0, [])


def test_ctrl_c_in_a_loop_of_ones_own_is_raised_at_the_end(folder: Path) -> None:
    """`run_until_complete` has no handler of asyncio's, which would cancel the task."""
    with leasing(folder, OWN_LOOP, boot_seconds=0, delete_seconds=3.0) as (emulator, running):
        assert running.line() == "ready"
        wait_for_delete(emulator)
        # In the first 0.05 s it would count as what ended the block.
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=100)
        assert (output.strip(), "may be left running" in errors) == ("raised at the end", True)
        assert (len(emulator.pods), list(lease_files(folder))) == (0, [])


def test_ctrl_c_in_a_child_forked_while_releasing_is_the_childs(folder: Path) -> None:
    """There is nothing that it releases."""
    with leasing(folder, FORKED, boot_seconds=0, delete_seconds=1.0) as (_, running):
        output, _ = running.communicate(timeout=100)
        assert output.strip() == "7"


def test_handlers_of_sigint_are_restored_and_others_left_alone(folder: Path) -> None:
    """One that is set in the block is called during the release, and stays."""
    with leasing(folder, HANDLERS, boot_seconds=0, delete_seconds=0.5) as (_, running):
        output, _ = running.communicate(timeout=100)
        assert output.split() == ["True", "ours", "ours", "chained", "ours"]


def test_ctrl_c_ends_what_blocks_the_loop_while_releasing(folder: Path) -> None:
    """A loop that is blocked hears of none; after a second the next one is raised, as without a release."""
    with leasing(folder, BLOCKED, boot_seconds=0, delete_seconds=0.05) as (_, running):
        assert running.line() == "blocked"
        with ThreadPoolExecutor() as pool:
            said = pool.submit(running.line)
            # No further one once it is raised: on a busy machine that could end the release itself.
            while not said.done():
                running.send_signal(signal.SIGINT)
                wait([said], timeout=1.2)
            assert said.result() == "raised"
        _, errors = running.communicate(timeout=100)
        assert "KeyboardInterrupt" in errors
        assert list(lease_files(folder)) == []
