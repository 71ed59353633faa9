"""`primepods config`: the settings, and where each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._command import Api, api_command
from ._output import Output, OutputOption, print_models
from ._table import Column, print_table, tell

if TYPE_CHECKING:
    from primepods.config import SettingSource

_COLUMNS = (Column("SETTING"), Column("VALUE"), Column("FROM"))


@api_command
def command(api: Api, *, output: OutputOption = Output.TABLE) -> None:
    """Show the settings, and where each comes from; never the key.

    An option goes before the environment (PRIME_API_KEY, PRIME_API_BASE_URL, PRIME_TEAM_ID, PRIME_CONTEXT),
    and that before what `prime login` and `prime config` have saved in ~/.prime.
    """
    from primepods.config import explain, saved_contexts  # noqa: PLC0415 - `--help` has no use for it

    settings = explain(base_url=api.base_url, team_id=api.team, context=api.context)
    print_models(settings, output, _print_table)
    if output is Output.TABLE:
        tell(f"Contexts to choose from with --context: {', '.join(saved_contexts())}")
    # Says what cannot be used, if anything.
    api.client().close()


def _print_table(settings: Sequence[SettingSource]) -> None:
    print_table(
        _COLUMNS, [(setting.name, setting.value or "not set", setting.source) for setting in settings]
    )
