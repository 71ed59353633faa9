"""`primepods get` and `status`: all fields of some pods, or their status in few requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import primepods

from ._command import Api, api_command
from ._errors import CommandError, print_errors_and_exit_if_any
from ._handles import PodHandles, is_single, read_handles, resolve_handles
from ._output import M, ModelTable, PrintOptions, print_model
from ._pod_table import PODS, price, readiness, status_cell
from ._table import Cell, Column

STATUSES: Final = ModelTable(
    empty_model=lambda: primepods.PodStatus(pod_id=""),
    id_of=lambda row: row.pod_id,
    cells={
        Column("ID"): lambda row: row.pod_id,
        Column("STATUS", min_width=8): lambda row: status_cell(row.status),
        Column("READY"): readiness,
        Column("PRICE/H", right=True, rank=2): lambda row: price(row.cost_per_hr),
        Column("SSH", rank=1): lambda row: "" if row.ssh is None else str(row.ssh),
        Column("FAILURE", min_width=12, rank=1): lambda row: Cell(row.failure or "", "red"),
    },
)


@api_command
def get(
    api: Api,
    pods: PodHandles,
    *,
    print_options: PrintOptions,
) -> None:
    """Show all fields of one pod, or of several.

    As JSON, one pod is an object; several pods, or pods from stdin (-), are an array.
    """
    PODS.check(print_options)
    with api.client() as client:
        ids = resolve_handles(client, read_handles(pods), team=api.team)
    found, errors = api.run(lambda client: _get(client, ids))
    _print(PODS, found, pods, print_options)
    print_errors_and_exit_if_any(api.command, errors)


async def _get(
    client: primepods.AsyncClient, ids: list[str]
) -> tuple[list[primepods.Pod], dict[str, primepods.PrimePodsError]]:
    """Return the pods in the order of their ids, and the errors of the others."""
    import asyncio

    results = await asyncio.gather(*map(client.pods.get, ids), return_exceptions=True)
    pods: list[primepods.Pod] = []
    errors: dict[str, primepods.PrimePodsError] = {}
    for pod_id, result in zip(ids, results, strict=True):
        if isinstance(result, primepods.PrimePodsError):
            errors[pod_id] = result
        elif isinstance(result, BaseException):
            raise result
        else:
            pods.append(result)
    return pods, errors


@api_command
def status(
    api: Api,
    pods: PodHandles,
    *,
    print_options: PrintOptions,
) -> None:
    """Show the status of pods: state, installation, failure, and how to log in.

    Reads up to a hundred pods per request. As JSON, one pod is an object; several pods, or pods from stdin
    (-), are an array.
    """
    STATUSES.check(print_options)
    with api.client() as client:
        statuses = client.pods.statuses(resolve_handles(client, read_handles(pods), team=api.team))
    rows = list(statuses.values())
    _print(STATUSES, rows, pods, print_options)
    missing = CommandError("the API does not show this pod; it may be terminated, or not visible yet")
    errors = dict.fromkeys(statuses.missing, missing) | dict(statuses.errors)
    print_errors_and_exit_if_any(api.command, errors)


def _print(
    table: ModelTable[M], found: Sequence[M], handles: Sequence[str], print_options: PrintOptions
) -> None:
    """Print one model if one handle was typed, or else a table or an array."""
    if is_single(handles) and found and not print_options.selects_fields:
        print_model(found[0], print_options.output)
    else:
        table.print(found, print_options)
