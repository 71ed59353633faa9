"""An emulated account, and sessions of `primepods mcp` on it."""

import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from primepods.emulator import Emulator
from primepods.runs import list_runs

if TYPE_CHECKING:
    from mcp import Client

LOCAL_SSH = shlex.join([sys.executable, "-m", "primepods.emulator.local_ssh"])


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark all tests: they need the extra `mcp`."""
    item.add_marker(pytest.mark.optional)


@pytest.fixture(autouse=True)
def market(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    """An API whose pods are ready at once; pods' homes, leases and the budget are the test's own."""
    pytest.importorskip("mcp", reason="the extra mcp is not installed")
    (tmp_path / "pods").mkdir()
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        for name, value in {
            "TMPDIR": str(tmp_path / "pods"),
            "PRIMEPODS_STATE_DIR": str(tmp_path / "state"),
            "PRIMEPODS_SSH_COMMAND": LOCAL_SSH,
            "PRIME_API_KEY": emulator.api_key,
            "PRIME_API_BASE_URL": emulator.url,
        }.items():
            monkeypatch.setenv(name, value)
        yield emulator
        # What a test has left in the background ends with it, and with its pods' commands.
        live = [run for run in list_runs()[0] if run.is_live]
        for run in live:
            with suppress(ProcessLookupError):
                os.kill(run.record.pid, signal.SIGINT)
        ends_at = time.monotonic() + 60
        while any(run.is_live for run in live) and time.monotonic() < ends_at:
            time.sleep(0.1)


class Session:
    """A session, through the official client."""

    def __init__(self, client: "Client") -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool, and return its typed result."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        content: dict[str, Any] = result.structured_content
        return content

    async def fail(self, tool: str, **arguments: Any) -> str:
        """Call a tool that fails, and return what it says."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        [text] = [getattr(part, "text", "") for part in result.content]
        return str(text)


Open = Callable[..., AbstractAsyncContextManager[Session]]


@pytest.fixture
def open_session(market: Emulator) -> Open:
    """Begins a session, which may rent unless its budget is ``None``; with a reply, the user can be asked."""
    from mcp import Client
    from mcp.client import ClientRequestContext
    from mcp.types import ElicitRequestParams, ElicitResult

    from primepods.cli._shared.command import Api
    from primepods.cli.agents._tools import AgentTools
    from primepods.runs import AgentBudget

    @asynccontextmanager
    async def opened(
        budget: float | None = 20.0,
        *,
        max_hourly: float = 20.0,
        mode: str = "auto",
        reply: bool | None = None,
        questions: list[str] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> AsyncGenerator[Session]:
        async def answer(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
            if questions is not None:
                questions.append(params.message)
            return ElicitResult(action="accept", content={"rent": bool(reply)})

        limits = None if budget is None else AgentBudget(budget, max_hourly=max_hourly)
        server = AgentTools(Api(command="primepods mcp"), limits, now).server()
        callback = None if reply is None else answer
        async with Client(server, mode=mode, elicitation_callback=callback) as client:
            yield Session(client)

    return opened
