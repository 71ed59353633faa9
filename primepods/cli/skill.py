"""`primepods skill`: instructions for agents about this command."""

from __future__ import annotations

import typer

import primepods


def command() -> None:
    """Print a SKILL.md for agents: which command to use when, and rules about money.

    Examples:
      mkdir -p .claude/skills/primepods && primepods skill >.claude/skills/primepods/SKILL.md
    """
    from importlib.resources import files

    text = files("primepods.cli").joinpath("skill.txt").read_text(encoding="utf-8")
    typer.echo(text.replace("VERSION", primepods.__version__), nl=False)
