"""`primepods mcp`: tools for agents, over stdio."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from primepods._utils.text import install_hint

from .._shared.command import Api, api_command
from .._shared.durations import duration_option
from .._shared.errors import SIGNAL_EXIT_CODE, CommandError, ExitCode

if TYPE_CHECKING:
    from ._tools import AgentTools


def _limit(text: str) -> Any:
    return typer.Option(min=0, help=text, metavar="AMOUNT")


@api_command
def command(
    api: Api,
    *,
    allow_rent: Annotated[bool, typer.Option("--allow-rent", help="Include tools that rent pods.")] = False,
    max_hourly: Annotated[float | None, _limit("Max price per hour of all pods of agents together.")] = None,
    budget: Annotated[
        float | None, _limit("Max amount that all sessions of this machine may spend together.")
    ] = None,
    budget_window: Annotated[
        float,
        duration_option(
            "Count only the spend of the last TIME, such as 24h; by default all.", show_default=False
        ),
    ] = math.inf,
    emulator: Annotated[
        bool, typer.Option("--emulator", help="Rehearse on emulated pods: commands run on this machine.")
    ] = False,
) -> None:
    """Serve tools for agents over stdio (MCP), to look at pods and offers; with --allow-rent, also to rent.

    A program with an agent, such as an editor, runs this command. Without --allow-rent, no tool rents or
    deletes a pod.

    Examples:
      primepods mcp
      primepods mcp --allow-rent --max-hourly 5 --budget 20 --budget-window 24h
    """
    import asyncio

    from primepods import runs

    if allow_rent and (max_hourly is None or budget is None):
        raise CommandError(
            "--allow-rent needs --max-hourly and --budget: agents may forget pods", ExitCode.USAGE
        )
    if emulator:
        if api.base_url or api.context or api.team:
            raise CommandError(
                "--emulator cannot be combined with --base-url, --context or --team", ExitCode.USAGE
            )
        raise typer.Exit(_rehearse([word for word in sys.argv[1:] if word != "--emulator"]))
    try:
        from ._tools import AgentTools
    except ModuleNotFoundError as exc:
        raise CommandError(f"{exc.name} is not installed. {install_hint('mcp')}", ExitCode.USAGE) from None
    limits = None
    if budget is not None and max_hourly is not None and allow_rent:
        limits = runs.AgentBudget(budget, max_hourly=max_hourly, window=budget_window)
    asyncio.run(_serve(AgentTools(api, limits)))


async def _serve(tools: AgentTools) -> None:
    import asyncio

    from .._shared.stderr import finish_stderr

    def end(number: int) -> None:
        try:
            tools.leave()
        finally:
            finish_stderr()
            os._exit(SIGNAL_EXIT_CODE + number)

    # A signal ends the process at once, since the thread that reads stdin cannot be cancelled.
    with suppress(NotImplementedError):  # on Windows
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
    await tools.server().run_stdio_async()


def _rehearse(words: list[str]) -> int:
    """Run this command in a child process, with an emulated account; return its exit code."""
    from primepods.config import environment_without_key

    program = [sys.executable, "-m", "primepods"]
    process = subprocess.Popen(  # noqa: S603 - this command
        [*program, "emulator", "--boot-seconds", "2", "--", *program, *words],
        env=environment_without_key("PRIME"),
        start_new_session=True,  # the child ends its pods even if this process is killed
    )
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
