"""`primepods config`: the settings and their sources."""

from __future__ import annotations

from ._command import Api, api_command
from ._output import ModelTable, Output, OutputOption, PrintOptions
from ._table import Column, print_info


@api_command
def command(api: Api, *, output: OutputOption = Output.TABLE) -> None:
    """Show the settings and their sources, without the key.

    Options override environment variables (PRIME_API_KEY, PRIME_API_BASE_URL, PRIME_TEAM_ID, PRIME_CONTEXT),
    which override the files of `prime login` and `prime config` in ~/.prime.
    """
    from primepods.config import SettingSource, explain, saved_contexts

    settings = explain(**api.account)
    table = ModelTable(
        empty_model=lambda: SettingSource(name="", value=None, source=""),
        id_of=lambda setting: setting.name,
        cells={
            Column("SETTING"): lambda setting: setting.name,
            Column("VALUE", min_width=10): lambda setting: setting.value or "not set",
            Column("FROM", min_width=10): lambda setting: setting.source,
        },
    )
    table.print(settings, PrintOptions(output=output))
    if output is Output.TABLE:
        print_info(f"Contexts for --context: {', '.join(saved_contexts())}")
    # Creating a client raises an error for an unusable setting, which the table above has shown.
    api.client().close()
