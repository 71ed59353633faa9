"""`primepods status`: how some pods are, in as few requests as can be."""

from __future__ import annotations

from collections.abc import Sequence

import primepods

from ._command import Api, api_command
from ._errors import CommandError, fail_for
from ._handles import PodHandles, is_single, read_handles, resolve_handles
from ._output import Output, OutputOption, print_model, print_models
from ._pod_table import price, readiness, status_cell
from ._table import Cell, Column, print_table

_COLUMNS = (
    Column("ID"),
    Column("STATUS"),
    Column("READY"),
    Column("PRICE/H", right=True, rank=2),
    Column("SSH", rank=1),
    Column("FAILURE", least=12),
)


@api_command
def command(api: Api, pods: PodHandles, *, output: OutputOption = Output.TABLE) -> None:
    """Show the status of pods: state, installation, failure, and how to log in.

    A hundred ids go into one request. As JSON, one id gives one object, several (or -) an array.
    """
    with api.client() as client:
        statuses = client.pods.statuses(resolve_handles(client, read_handles(pods), team=api.team))
    rows = list(statuses.values())
    if is_single(pods) and rows:
        print_model(rows[0], output)
    else:
        print_models(rows, output, print_statuses)
    missing = CommandError("the API has no status of it: it is terminated, or not visible yet")
    fail_for(api.command, dict.fromkeys(statuses.missing, missing) | dict(statuses.errors))


def print_statuses(rows: Sequence[primepods.PodStatus]) -> None:
    """Print a table of statuses."""
    print_table(_COLUMNS, [_cells(row) for row in rows])


def _cells(row: primepods.PodStatus) -> list[str | Cell]:
    return [
        row.pod_id,
        status_cell(row.status),
        readiness(row),
        price(row.cost_per_hr),
        "" if row.ssh is None else str(row.ssh),
        Cell(row.failure or "", "red"),
    ]
