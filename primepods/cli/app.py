"""The command's root: its nouns, and what holds for all of them."""

from typing import Annotated

import typer

import primepods

from . import demo, emulator, sweep


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        typer.echo(f"primepods {primepods.__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run GPU pods on Prime Intellect."""


# Without typer's own tracebacks: they show local variables, and one of those can be a key.
app: typer.Typer = typer.Typer(
    callback=_root, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
app.command("demo")(demo.command)
app.command("emulator")(emulator.command)
app.command("sweep")(sweep.command)
