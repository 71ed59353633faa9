"""`primepods doctor`: checks of the settings, the API and this machine."""

from __future__ import annotations

from typing import Any

import typer

from ._shared.command import Api, api_command
from ._shared.errors import ExitCode, reword_for_shell
from ._shared.output import Output, OutputOption, write_rows
from ._shared.table import has_colour, paint, terminal_width, wrap_words, write
from ._shared.text import printable

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}
_INDENT = 9
"""Where the text of a check begins."""
_MAX_LENGTH = 2_000
"""Max number of characters of a detail or a remedy."""


@api_command
def command(api: Api, *, output: OutputOption = Output.TABLE) -> None:
    """Check the settings, the API, the key's permissions, the clock, ssh and the lease folder.

    Rents nothing and deletes nothing. The output does not contain the key, so you can attach it to a bug
    report. The exit code is 1 if a check fails; warnings do not change it.
    """
    import asyncio

    from primepods.doctor import diagnose

    options: dict[str, Any] = {} if api.timeout is None else {"timeout": api.timeout}
    found = asyncio.run(diagnose(**api.account, **options))
    checks = [check.edited(reword_for_shell) for check in found]
    colours = _COLOURS if has_colour() else {}
    if output is not Output.TABLE:
        write_rows([check.to_dict() for check in checks], output, ["name", "result", "detail", "remedy"])
    else:
        for check in checks:
            mark = paint(f"{check.result:{_INDENT}}", colours.get(check.result))
            for start, text in ((mark, f"{check.name}: {check.detail}"), ("", check.remedy)):
                if text is not None:
                    line = f"{'':{_INDENT}}{printable(text, max_length=_MAX_LENGTH)}"
                    shown = wrap_words(line, terminal_width(), indent=_INDENT)
                    write(f"{start or ' ' * _INDENT}{shown[_INDENT:]}\n")
    if any(check.result == "failure" for check in checks):
        raise typer.Exit(ExitCode.FAILED)
