"""Sphinx extension: all options of all commands, from the command's own tree.

In a page, the line ``<!-- commands -->`` stands for a section for each command.
"""

from __future__ import annotations

import re
from typing import Any, cast

import typer
from sphinx.application import Sphinx

from primepods.cli.app import app as command_line

_PLACE = "<!-- commands -->"
_CODE = re.compile(r"`[^`]*`|(?<![\w-])--?[a-z][\w-]*(=[\w.-]*\w)?")
_SPECIAL = re.compile(r"[\\*_<>\[\]|]")


def command_sections() -> str:
    """Return Markdown: a section for each command, with its usage, help and options."""
    root = cast("Any", typer.main.get_command(command_line))
    common = {(one.name, one.help) for one in root.params}
    sections = [_section("primepods [OPTIONS] COMMAND", root, set())]
    for name in root.list_commands(None):
        command = root.get_command(None, name)
        if not command.hidden:
            words = [_value(one) for one in command.params if one.param_type_name == "argument"]
            sections.append(_section(" ".join([f"primepods {name} [OPTIONS]", *words]), command, common))
    return "\n".join(sections)


def _section(usage: str, command: Any, common: set[tuple[str, str]]) -> str:
    shown = [one for one in command.params if not one.hidden and (one.name, one.help) not in common]
    parts = [f"## {command.name or 'primepods'}", f"```text\n{usage}\n```"]
    for paragraph in (command.help or "").replace("\b\n", "").split("\n\n"):
        text, *examples = paragraph.split("\n  ")
        parts += [_markdown(text), *(["```text\n" + "\n".join(examples) + "\n```"] if examples else [])]
    # A panel of the help is a table; what has none comes first, as there.
    tables: dict[str, list[str]] = {"Argument": [], "Option": []}
    for one in shown:
        is_argument = one.param_type_name == "argument"
        names = [""] if is_argument else [f"{name} " for name in (*one.opts, *one.secondary_opts)]
        value = "" if getattr(one, "is_flag", False) else _value(one)
        cell = ", ".join(f"`{(name + value).strip()}`" for name in names).replace("|", r"\|")
        panel = one.rich_help_panel or ("Argument" if is_argument else "Option")
        tables.setdefault(panel, []).append(f"| {cell} | {_meaning(one)} |")
    for panel, rows in tables.items():
        parts += ["\n".join([f"| {panel} | |", "|---|---|", *rows])] if rows else []
    if len(shown) < len([one for one in command.params if not one.hidden]):
        parts.append("Also the options of [primepods](#primepods).")
    return "\n\n".join(parts) + "\n"


def _value(parameter: Any) -> str:
    """Return the name that the help has for a value."""
    return str(parameter.metavar or parameter.name.upper())


def _meaning(parameter: Any) -> str:
    """Return the help of an option or argument, with its default."""
    text = _markdown(parameter.help or "")
    default = parameter.default
    if isinstance(parameter.show_default, str):
        return f"{text} Default: {parameter.show_default}."
    # Python's booleans and empty values say nothing in a shell.
    if parameter.show_default and default and not isinstance(default, (bool, list, tuple)):
        return f"{text} Default: {getattr(default, 'value', default)}."
    return text


def _markdown(text: str) -> str:
    """Return a help text as Markdown, with the names of options as code."""
    parts: list[str] = []
    end = 0
    for code in _CODE.finditer(text):
        parts += [_SPECIAL.sub(r"\\\g<0>", text[end : code.start()]), f"`{code[0].strip('`')}`"]
        end = code.end()
    return "".join([*parts, _SPECIAL.sub(r"\\\g<0>", text[end:])])


def _read_page(_app: Sphinx, _page: str, content: list[str]) -> None:
    if _PLACE in content[0]:
        content[0] = content[0].replace(_PLACE, command_sections())


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", _read_page)
    return {"parallel_read_safe": True}
