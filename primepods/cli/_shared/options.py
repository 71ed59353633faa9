"""Options of commands, with their help text first."""

from __future__ import annotations

from functools import partial
from typing import Any

import typer


def option(
    text: str, metavar: str | None = None, *names: str, panel: str | None = None, **settings: Any
) -> Any:
    """Return an option with a value.

    Args:
        text: Its help text.
        metavar: The word for its value in the help.
        names: Its names; by default that of the parameter.
        panel: Title of its section in the help.
        settings: Further arguments of ``typer.Option``.
    """
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel, **settings)


def flag(text: str, *names: str, panel: str | None = None, **settings: Any) -> Any:
    """Return an option without a value."""
    return option(text, None, *names, panel=panel, **settings)


filter_option = partial(option, panel="Filters")
login_option = partial(option, panel="On the pod")
pod_option = partial(option, panel="The pod")
