"""`primepods status`: the status of some pods, in few requests."""

from __future__ import annotations

from typing import Final

import primepods

from ._command import Api, api_command
from ._errors import CommandError, print_errors_and_exit_if_any
from ._handles import PodHandles, is_single, read_handles, resolve_handles
from ._output import ModelTable, PrintOptions, print_model
from ._pod_table import price, readiness, status_cell
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
def command(
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
    if is_single(pods) and rows and not print_options.selects_fields:
        print_model(rows[0], print_options.output)
    else:
        STATUSES.print(rows, print_options)
    missing = CommandError("the API does not show this pod; it may be terminated, or not visible yet")
    errors = dict.fromkeys(statuses.missing, missing) | dict(statuses.errors)
    print_errors_and_exit_if_any(api.command, errors)
