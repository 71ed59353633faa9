"""`primepods config`: the settings, and where each comes from."""

from __future__ import annotations

from ._command import Api, api_command
from ._output import Form, ModelTable, Output, OutputOption
from ._table import Column, tell


@api_command
def command(api: Api, *, output: OutputOption = Output.TABLE) -> None:
    """Show the settings, and where each comes from; never the key.

    An option goes before the environment (PRIME_API_KEY, PRIME_API_BASE_URL, PRIME_TEAM_ID, PRIME_CONTEXT),
    and that before what `prime login` and `prime config` have saved in ~/.prime.
    """
    from primepods.config import SettingSource, explain, saved_contexts

    settings = explain(base_url=api.base_url, team_id=api.team, context=api.context)
    table = ModelTable(
        blank=lambda: SettingSource(name="", value=None, source=""),
        id_of=lambda setting: setting.name,
        cells={
            Column("SETTING"): lambda setting: setting.name,
            Column("VALUE", least=10): lambda setting: setting.value or "not set",
            Column("FROM", least=10): lambda setting: setting.source,
        },
    )
    table.print(settings, Form(output=output))
    if output is Output.TABLE:
        tell(f"Contexts to choose from with --context: {', '.join(saved_contexts())}")
    # Says what cannot be used, if anything.
    api.client().close()
