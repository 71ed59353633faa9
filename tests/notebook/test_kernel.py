"""In a real kernel: one output a call, redrawn in place, with both clients."""

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

pytestmark = pytest.mark.slow

nbformat: Any = pytest.importorskip("nbformat", reason="the group `kernel` is not installed")
nbclient: Any = pytest.importorskip("nbclient", reason="the group `kernel` is not installed")
pytest.importorskip("ipykernel", reason="the group `kernel` is not installed")

ROOT = Path(__file__).parent.parent.parent

BEGIN = """\
import asyncio, primepods, primepods.notebook
from primepods.emulator import Emulator
emulator = Emulator(pods=6, seed=3, boot_seconds=3, failure_rate=0, delete_seconds=0).start()
client = primepods.AsyncClient(emulator.api_key, base_url=emulator.url)
blocking = primepods.Client(emulator.api_key, base_url=emulator.url)
pods = blocking.pods.page()
"""


def run(*cells: str) -> list[tuple[Any, int]]:
    """Run the cells after `BEGIN`; returns each one and how often its outputs were redrawn."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(dedent(cell)) for cell in (BEGIN, *cells)]
    )
    redrawn = [0] * len(notebook.cells)

    class Client(nbclient.NotebookClient):  # type: ignore[misc] # it may not be installed
        def process_message(self, message: Any, cell: Any, index: int) -> Any:
            redrawn[index] += message["msg_type"] == "update_display_data"
            return super().process_message(message, cell, index)

    runner = Client(notebook, timeout=60, allow_errors=True, resources={"metadata": {"path": str(ROOT)}})
    runner.execute()
    return list(zip(notebook.cells, redrawn, strict=True))[1:]


def shown(cell: Any) -> list[str]:
    """The lines that stand for what a cell displays."""
    return [
        output["data"]["text/plain"] for output in cell.outputs if output["output_type"] == "display_data"
    ]


def test_notebooks() -> None:
    """Waits and watches of both clients, in one kernel."""
    (awaited, often), (called, again), (watched, redrawn), (failed, _), (task, meanwhile) = run(
        "async with client: done = await primepods.notebook.wait(client, pods, interval=0.2)\nlen(done)",
        "len(primepods.notebook.wait(blocking, [pod.id for pod in pods], interval=0.2))",
        "primepods.notebook.watch(blocking, interval=0.2, duration=2.5)",
        "primepods.notebook.wait(blocking, pods, until=primepods.gone, timeout=0.5)",
        # In one cell, since nbclient reads only what belongs to the cell that runs.
        """
        client = primepods.AsyncClient(emulator.api_key, base_url=emulator.url)
        watch = asyncio.create_task(primepods.notebook.watch(client, interval=0.1))
        await asyncio.sleep(0.5)
        emulator.add_pod('late')
        await asyncio.sleep(2.5)
        print('other work')
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await client.aclose()
        """,
    )
    check_waits(awaited, often, called, again)
    check_blocking_watch(watched, redrawn, failed)
    check_watch_in_a_task(task, meanwhile)


def check_waits(awaited: Any, often: int, called: Any, again: int) -> None:
    """The same cell is redrawn until all are ready, and the statuses are returned."""
    for cell in (awaited, called):
        [line] = shown(cell)
        assert re.match(r"Waiting for 6 pods until ready · ended after 0:\d\d: 6 ready", line)
        assert cell.outputs[-1]["data"]["text/plain"] == "6"
    assert often >= 2, "redrawn while it waited"
    assert again >= 1
    assert "<svg" in awaited.outputs[0]["data"]["text/html"]


def check_watch_in_a_task(cell: Any, redrawn: int) -> None:
    """It is redrawn while other work goes on; a pod that is made joins; cancelling ends it."""
    [line] = shown(cell)
    assert re.match(r"Watching all pods · interrupted after 0:\d\d: ", line)
    assert "late" in cell.outputs[0]["data"]["text/html"]
    assert [output["text"] for output in cell.outputs if "text" in output] == ["other work\n"]
    assert redrawn >= 1


def check_blocking_watch(watched: Any, redrawn: int, failed: Any) -> None:
    """A blocking watch ends after its time; what ends a wait is raised, and its last state stays."""
    [line] = shown(watched)
    assert re.match(r"Watching all pods · ended after 0:\d\d: ", line)
    assert watched.outputs[-1]["data"]["text/plain"].startswith("<Fleet: 6 pods, ")
    assert redrawn >= 1
    assert [output.get("ename") for output in failed.outputs] == [None, "WaitTimeoutError"]
    assert re.search(r" · WaitTimeoutError after 0:\d\d: ", shown(failed)[0])
