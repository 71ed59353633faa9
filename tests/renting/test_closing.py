"""Closing a client that has leases, and what interrupts that."""

import asyncio
import itertools
import sys
from pathlib import Path
from types import FrameType

import pytest

import primepods
from primepods.emulator import Emulator, Status
from tests.renting.stage import Stage, lease_files, spec_of, stage
from tests.sync.harness import eventually, loop_threads


@pytest.mark.parametrize("cancellations", [1, 2, 3])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_close_closes(it: Stage, cancellations: int, *, fails: bool) -> None:
    """The leases end as they do in a block, hurried; the cancellation comes out, and the client is closed."""
    pod = await it.client.pods.lease(it.spec).__aenter__()
    if fails:
        it.emulator.faults.add(Status(503), on="delete")
    closing = asyncio.create_task(it.client.aclose())
    for _ in range(cancellations):
        await it.clock.sleep(1)
        closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(primepods.ClientClosedError):
        await it.client.pods.get(pod.id)
    left = [record.pod_id for record in it.records()]
    assert left == ([pod.id] if it.running() or pod.id in it.emulator.pods else [])
    assert fails == (it.running() == [pod.id])


def close_interrupted(client: primepods.Client, step: int) -> bool:
    """Close it, with a Ctrl-C at this step of ours; tells whether it was raised."""
    left = step
    package = str(Path(primepods.__file__).parent)

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        # Not in a callback of the garbage collector, which would swallow it.
        left -= event in {"call", "return"} and frame.f_code.co_filename.startswith(package)
        if left < 0:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        client.close()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.slow
def test_ctrl_c_at_any_step_of_a_blocking_close_closes(folder: Path) -> None:
    """It comes out of `close`; the pods are gone, and the client's thread has ended or is about to."""
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        for step in itertools.count(1, 5):
            client = primepods.Client(emulator.api_key, base_url=emulator.url)
            spec = spec_of(client.request("GET", "/api/v1/availability/gpus"))
            leases = [client.pods.lease(spec, interval=0.05) for _ in range(2)]
            ids = [lease.__enter__().id for lease in leases]
            was_interrupted = close_interrupted(client, step)
            eventually(lambda: not loop_threads(), "the client's thread ends")
            assert [pod_id for pod_id in ids if pod_id in emulator.pods] == [], step
            assert list(lease_files(folder)) == []
            with pytest.raises(primepods.ClientClosedError):
                client.pods.page()
            if not was_interrupted:
                break
        assert step > 20


async def test_a_client_closed_as_the_pod_becomes_ready(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The block does not begin, and the release has its whole time: the error is no interruption."""
    ready = asyncio.Event()

    def on_event(event: object) -> None:
        if isinstance(event, primepods.events.LeaseReady):
            ready.set()

    async with stage(folder, options={"on_event": on_event}, delete_seconds=30.0) as it:

        async def close() -> None:
            await ready.wait()
            await it.client.aclose()

        async def work() -> None:
            await ready.wait()
            it.clock.jump(it.clock.time() + 0.1)  # the loop is busy

        async with asyncio.TaskGroup() as group:
            group.create_task(close())
            group.create_task(work())
            with pytest.raises(primepods.ClientClosedError) as caught:
                async with it.client.pods.lease(it.spec):
                    pytest.fail("the block has begun")
        assert not hasattr(caught.value, "__notes__")
        assert "interruption" not in caplog.text
        assert not it.emulator.pods
        assert not lease_files(folder)
