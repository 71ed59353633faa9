"""What all commands that call the API have in common: their options, their client, how they end."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any, TypeVar

import attrs
import typer

import primepods

from ._completion import complete_contexts
from ._durations import parse_duration
from ._errors import reported_errors
from ._output import ColumnsOption, Form, FullIdsOption, IdsOption, Output, OutputOption

T = TypeVar("T")

_PANEL = "Connection"

BaseUrl = Annotated[
    str | None, typer.Option(help="Address of the API.", metavar="URL", rich_help_panel=_PANEL)
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        "-c",
        help="Saved context to use.",
        metavar="NAME",
        autocompletion=complete_contexts,
        rich_help_panel=_PANEL,
    ),
]
Team = Annotated[str | None, typer.Option(help="Team to act for.", metavar="ID", rich_help_panel=_PANEL)]
Timeout = Annotated[
    float | None,
    typer.Option(
        help="For each request with its retries, such as 30s.",
        metavar="TIME",
        parser=parse_duration,
        rich_help_panel=_PANEL,
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show each request on stderr.", rich_help_panel=_PANEL)
]


AsJson = Annotated[bool, typer.Option("--json", help="The same as --output json.")]


@attrs.frozen(kw_only=True)
class Api:
    """How a command reaches the API: what its common options say, ``None`` where nothing was said.

    Attributes:
        command: The command's name as typed, such as ``primepods list``.
        base_url: ``--base-url``.
        context: ``--context``.
        team: ``--team``.
        timeout: ``--timeout`` in seconds.
    """

    command: str
    base_url: str | None = None
    context: str | None = None
    team: str | None = None
    timeout: float | None = None

    def client(self) -> primepods.Client:
        """Return a blocking client; use it in a ``with`` block."""
        return primepods.Client(**self._options())

    def async_client(self) -> primepods.AsyncClient:
        """Return an asynchronous client; use it in an ``async with`` block."""
        return primepods.AsyncClient(**self._options())

    def run(self, work: Callable[[primepods.AsyncClient], Awaitable[T]]) -> T:
        """Run a coroutine function with an asynchronous client, and return what it returns."""
        import asyncio

        async def with_client() -> T:
            async with self.async_client() as client:
                return await work(client)

        return asyncio.run(with_client())

    def _options(self) -> dict[str, Any]:
        from primepods.config import DEFAULT_TIMEOUT

        options: dict[str, Any] = {"base_url": self.base_url, "context": self.context, "team_id": self.team}
        if self.timeout is not None:
            # A single attempt may take all of it, up to what the client grants one by itself.
            options |= {"deadline": self.timeout, "timeout": min(self.timeout, DEFAULT_TIMEOUT)}
        return options


def api_command(body: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that call the API; its errors become a line and an exit code.

    Args:
        body: The command: its first parameter takes an :class:`Api`, the others are its own options. One
            that is named as a common option, such as ``timeout``, replaces that; one named ``form`` takes a
            :class:`Form`, and brings the options for that.
    """
    _, *declared = inspect.signature(body, eval_str=True).parameters.values()
    own = [option for one in declared for option in (_FORM if one.name == "form" else [one])]
    names = {parameter.name for parameter in own}
    common = _COMMON.keys() - names - (set() if "output" in names else {"as_json"})

    @wraps(body)
    def command(ctx: typer.Context, **options: Any) -> None:
        given = {name: options.pop(name) for name in common}
        if given.pop("as_json", False):
            options["output"] = _json_form(options["output"])
        if len(own) > len(declared):
            options["form"] = Form(**{option.name: options.pop(option.name) for option in _FORM})
        with reported_errors(ctx.command_path, verbose=given.pop("verbose")):
            body(Api(command=ctx.command_path, **given), **options)

    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    added = [parameter for name, parameter in _COMMON.items() if name in common]
    # Typer reads from here which options there are.
    command.__dict__["__signature__"] = inspect.Signature([context, *own, *added])
    command.__annotations__ = {"ctx": typer.Context}
    return command


def _option(name: str, annotation: Any, default: object = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_FORM: list[inspect.Parameter] = [
    _option("output", OutputOption, Output.TABLE),
    _option("columns", ColumnsOption),
    _option("full_ids", FullIdsOption, default=False),
    _option("ids_only", IdsOption, default=False),
]
_COMMON: dict[str, inspect.Parameter] = {
    "as_json": _option("as_json", AsJson, default=False),
    "base_url": _option("base_url", BaseUrl),
    "context": _option("context", Context),
    "team": _option("team", Team),
    "timeout": _option("timeout", Timeout),
    "verbose": _option("verbose", Verbose, default=False),
}


def _json_form(output: StrEnum) -> StrEnum:
    """Return JSON in the enum of the command's output forms, or JSON lines where it has only those."""
    forms = {form.value: form for form in type(output)}
    return forms.get("json", forms["jsonl"])
