"""The command's root: its nouns, and what holds for all of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import primepods

from . import (
    config,
    create,
    delete,
    demo,
    emulator,
    get,
    history,
    list_pods,
    logs,
    offers,
    ssh,
    status,
    sweep,
    wait,
    watch,
)
from ._errors import ExitCode, complain


class _Root(TyperGroup):
    """The group of all commands; tells a wrong option in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - as above
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002 - as above
        **extra: Any,
    ) -> Any:
        """Run a command, and end the process with its exit code."""
        run = partial(
            super().main,
            args,
            prog_name,
            complete_var=complete_var,
            standalone_mode=False,
            windows_expand_args=windows_expand_args,
            **extra,
        )
        if not standalone_mode:
            return run()
        try:
            code = run()
        except typer.Abort:
            code = ExitCode.INTERRUPTED
        except Exception as error:
            # The base class of usage errors has no public name in typer; this is how it is told.
            if not hasattr(error, "format_message"):
                raise
            code = _complain_of_usage(error)
        sys.exit(code if isinstance(code, int) else 0)


def _complain_of_usage(error: Any) -> int:
    command = error.ctx.command_path if getattr(error, "ctx", None) else "primepods"
    message = error.format_message().rstrip(".")
    complain(command, f"{message}. See {command} --help.")
    return int(error.exit_code)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        typer.echo(f"primepods {primepods.__version__}")
        raise typer.Exit


# Without typer's own tracebacks: they show local variables, and one of those can be a key.
app: typer.Typer = typer.Typer(
    cls=_Root, invoke_without_command=True, pretty_exceptions_enable=False, rich_markup_mode="rich"
)


@app.callback()
def _root(
    ctx: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run GPU pods on Prime Intellect."""
    del version
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


_COMMANDS = (
    ("Pods", "list", list_pods.command),
    ("Pods", "get", get.command),
    ("Pods", "status", status.command),
    ("Pods", "watch", watch.command),
    ("Pods", "wait", wait.command),
    ("Pods", "logs", logs.command),
    ("Pods", "ssh", ssh.command),
    ("Rent and give back", "offers", offers.command),
    ("Rent and give back", "create", create.command),
    ("Rent and give back", "delete", delete.command),
    ("Rent and give back", "history", history.command),
    ("Rent and give back", "sweep", sweep.command),
    ("More", "config", config.command),
    ("More", "demo", demo.command),
    ("More", "emulator", emulator.command),
)
for _panel, _name, _command in _COMMANDS:
    app.command(_name, rich_help_panel=_panel)(_command)
# What the official command calls them.
app.command("terminate", hidden=True)(delete.command)
app.command("connect", hidden=True)(ssh.command)
