"""One command on all nodes of a pod at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from ._command import Command
from ._exchange import unwrap_first_error
from ._login import Login
from .results import CommandResult


async def run_on_all(
    logins: Sequence[Login],
    command: str | Sequence[str],
    variables: Sequence[Mapping[str, str]],
    env: Mapping[str, str],
    options: Mapping[str, Any],
) -> tuple[CommandResult, ...]:
    """Run a command on all nodes until the first failure; see :meth:`AsyncRemote.run_all`.

    Args:
        logins: The login to each node.
        command: The command.
        variables: Environment variables of each node.
        env: Environment variables of all nodes, which override those.
        options: Other arguments of :class:`Command`.
    """
    results: dict[int, CommandResult] = {}

    async def run(node: int, login: Login) -> None:
        work = Command(command, env={**variables[node], **env}, node=node, **options)
        results[node] = await work.run(login)
        work.check(results[node], login)

    # The first error cancels the other nodes' commands, which ends them on the nodes, too.
    with unwrap_first_error():
        async with anyio.create_task_group() as group:
            for node, login in enumerate(logins):
                group.start_soon(run, node, login)
    return tuple(results[node] for node in range(len(logins)))
