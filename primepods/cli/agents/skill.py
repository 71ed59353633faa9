"""`primepods skill`: instructions for agents about this command."""

from __future__ import annotations

import typer

import primepods

from .._shared.errors import EXIT_CODES


def command() -> None:
    """Print a SKILL.md for agents, with advice on the commands and rules about money.

    Examples:
      mkdir -p .claude/skills/primepods
      primepods skill >.claude/skills/primepods/SKILL.md
    """
    from importlib.resources import files

    text = files("primepods.cli").joinpath("skill.txt").read_text(encoding="utf-8")
    text = text.replace("VERSION", primepods.__version__).replace("EXIT_CODES", EXIT_CODES)
    typer.echo(text, nl=False)
