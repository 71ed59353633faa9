"""`primepods whoami`, `teams`, `wallet`, `ssh-keys` and `config`: the account, its keys and settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import attrs
import typer

import primepods
from primepods._utils.money import money

from ._shared.command import Api, YesOption, api_command, confirm
from ._shared.errors import CommandError, ExitCode
from ._shared.offer_options import find_key
from ._shared.options import option
from ._shared.output import ModelTable, Output, OutputOption, PrintOptions, print_model, readable_rows
from ._shared.pod_table import read_names
from ._shared.table import Column, print_info, print_table, write, write_ids

_TEAMS: Final = ModelTable(
    empty_model=lambda: primepods.Team(team_id=""),
    id_of=lambda team: team.team_id,
    cells={
        Column("ID"): lambda team: team.team_id,
        Column("NAME", min_width=8): lambda team: team.name or "",
        Column("ROLE"): lambda team: team.role or "",
    },
)


def _entry_table(names: Mapping[str, str]) -> ModelTable[primepods.BillingEntry]:
    """Return the table of a wallet's entries; ``names`` has the names of resources by id."""
    return ModelTable(
        empty_model=lambda: primepods.BillingEntry(id="", amount=0.0),
        id_of=lambda entry: entry.resource_id or "",
        cells={
            Column("TYPE"): lambda entry: entry.resource_type or "",
            Column("ID"): lambda entry: entry.resource_id or "",
            Column("NAME", min_width=8): lambda entry: names.get(entry.resource_id or "", ""),
            Column("LAST BILLED", rank=1): lambda entry: (
                "" if entry.last_billed_at is None else f"{entry.last_billed_at:%Y-%m-%d %H:%M}"
            ),
            Column("AMOUNT", right=True): lambda entry: money(entry.amount, entry.currency),
        },
    )


_KEYS: Final = ModelTable(
    empty_model=lambda: primepods.SSHKey(id="", name="", public_key=""),
    id_of=lambda key: key.id,
    cells={
        Column("ID"): lambda key: key.id,
        Column("NAME", min_width=8): lambda key: key.name,
        Column("PRIMARY"): lambda key: "yes" if key.is_primary else "",
        Column("KEY", min_width=8, rank=1): lambda key: key.public_key,
    },
)


@api_command
def whoami(api: Api, *, output: OutputOption = Output.TABLE) -> None:
    """Show the API key's user and permissions."""
    with api.client() as client:
        account = client.account.whoami()
    if output is not Output.TABLE:
        print_model(account, output)
        return
    print_model(attrs.evolve(account, scope={}), output)
    rights = [
        [name, *("yes" if right else "no" for right in (part.read, part.write))]
        for name, part in account.scope.items()
        if part is not None
    ]
    if rights:
        write("\n")
        print_table([Column("PERMISSION"), Column("READ"), Column("WRITE")], rights)


@api_command
def teams(api: Api, *, print_options: PrintOptions) -> None:
    """List your teams; --team takes the id of a team."""
    _TEAMS.check(print_options)
    with api.client() as client, readable_rows(client.account.teams()) as found:
        _TEAMS.print(found, print_options)


@api_command
def wallet(
    api: Api,
    *,
    output: OutputOption = Output.TABLE,
    limit: Annotated[int, option("Maximum number of charges.", "NUMBER", "--limit", "-L", "-n", min=1)] = 20,
) -> None:
    """Show the wallet's balance and last charges; with --team, of the team's wallet."""
    with api.client() as client:
        found = client.account.wallet(limit=limit)
        names = read_names(client) if output is Output.TABLE and found.entries else {}
    if output in {Output.JSON, Output.JSONL}:
        print_model(found, output)
        return
    balance = f"Balance: {money(found.balance, found.currency)}\n"
    write(balance, err=output is Output.CSV)
    _entry_table(names).print(found.entries, PrintOptions(output=output))


@api_command
def list_keys(api: Api, *, print_options: PrintOptions) -> None:
    """List the account's SSH keys."""
    _KEYS.check(print_options)
    with api.client() as client, readable_rows(client.ssh_keys.list()) as keys:
        _KEYS.print(keys, print_options)


@api_command
def add_key(
    api: Api,
    file: Annotated[
        Path, typer.Argument(help="File with the public key, such as ~/.ssh/id_ed25519.pub.", metavar="FILE")
    ],
    name: Annotated[str, typer.Argument(help="Name of the key in the account.", metavar="NAME")],
) -> None:
    """Add a public SSH key to the account, unless it has the key already. Prints the key's id."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        problem = f"{file} is not a public key: pass a file such as ~/.ssh/id_ed25519.pub"
        raise CommandError(problem, ExitCode.USAGE) from None
    with api.client() as client:
        write_ids([client.ssh_keys.add(name, text).id])


@api_command
def delete_key(
    api: Api,
    key: Annotated[str, typer.Argument(help="The key's id or name.", metavar="KEY", show_default=False)],
    *,
    yes: YesOption = False,
) -> None:
    """Delete an SSH key from the account; running pods may still accept it."""
    with api.client() as client:
        key_id = find_key(key, client.ssh_keys.list())
        confirm(f"Delete the SSH key {key}?", yes=yes)
        client.ssh_keys.delete(key_id)
        print_info(f"Deleted {key_id}.")


@api_command
def config(api: Api, *, output: OutputOption = Output.TABLE) -> None:
    """Show the settings and their sources, without the key.

    Options override environment variables (PRIME_API_KEY, PRIME_API_BASE_URL, PRIME_TEAM_ID, PRIME_CONTEXT),
    which override the files of `prime login` and `prime config` in ~/.prime.
    """
    from primepods.config import SettingSource, explain, max_hourly, saved_contexts

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
    if output is Output.TABLE and (contexts := saved_contexts())[1:]:
        print_info(f"Contexts for --context: {', '.join(contexts)}")
    # These raise an error if a setting in the table is unusable.
    max_hourly()
    api.client().close()
