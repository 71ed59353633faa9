"""Common options, client, error handling and confirmation of the commands that call the API."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial, wraps
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

import attrs
import typer

import primepods

from .completion import complete_contexts
from .durations import duration_option
from .errors import CommandError, ExitCode, print_error, reported_errors
from .options import flag, option
from .table import write

T = TypeVar("T")

_connection_option = partial(option, panel="Connection")

BaseUrl = Annotated[str | None, _connection_option("Address of the API.", "URL")]
Context = Annotated[
    str | None,
    _connection_option("Saved context to use.", "NAME", "--context", "-c", autocompletion=complete_contexts),
]
Team = Annotated[str | None, _connection_option("Team to act for.", "ID")]
Timeout = Annotated[
    float | None,
    duration_option("Max time for each request with its retries, such as 30s.", panel="Connection"),
]
Verbose = Annotated[bool, flag("Show each request on stderr.", "--verbose", panel="Connection")]
YesOption = Annotated[bool, flag("Do not ask for confirmation.", "--yes", "-y", "--force", "-f")]
AsJson = Annotated[bool, flag("Print JSON.", "--json")]


@attrs.frozen(kw_only=True)
class Api:
    """Access to the API with the common options; ``None`` for an option that was not given.

    Attributes:
        command: The command's name as typed, such as ``primepods list``.
        base_url: ``--base-url``.
        context: ``--context``.
        team: ``--team``.
        timeout: ``--timeout`` in seconds.
    """

    command: str
    base_url: BaseUrl = None
    context: Context = None
    team: Team = None
    timeout: Timeout = None

    @property
    def account(self) -> dict[str, Any]:
        """The client's arguments that select the API and the account."""
        return {"base_url": self.base_url, "context": self.context, "team_id": self.team}

    def client(self) -> primepods.Client:
        """Return a blocking client; use it in a ``with`` block."""
        return primepods.Client(**self._options())

    def async_client(self) -> primepods.AsyncClient:
        """Return an asynchronous client; use it in an ``async with`` block."""
        return primepods.AsyncClient(**self._options())

    def run(self, work: Callable[[primepods.AsyncClient], Awaitable[T]]) -> T:
        """Run a coroutine function with an asynchronous client, and return its result."""
        import asyncio

        async def with_client() -> T:
            async with self.async_client() as client:
                return await work(client)

        return asyncio.run(with_client())

    def _options(self) -> dict[str, Any]:
        from primepods.config import DEFAULT_TIMEOUT

        options = {**self.account, "on_event": _first_retry_printer(self.command)}
        if self.timeout is None:
            return options
        # --timeout includes retries, so it is the client's `deadline`. One attempt may take all of it, but no
        # longer than by default.
        return options | {"deadline": self.timeout, "timeout": min(self.timeout, DEFAULT_TIMEOUT)}


def _first_retry_printer(command: str) -> Callable[[object], None]:
    """Return a callback for events that reports the first request without a response, before its retries."""
    is_printed = False

    def print_first(event: object) -> None:
        from primepods.events import RetryScheduled

        nonlocal is_printed
        if isinstance(event, RetryScheduled) and event.status is None and not is_printed:
            is_printed = True
            print_error(command, f"{event.reason}. Trying again.")

    return print_first


def api_command(body: Callable[..., None]) -> Callable[..., None]:
    """Add the common options to a command, and turn its errors into one line and an exit code.

    Args:
        body: The command. Its first parameter gets an :class:`Api`. The others are its arguments and options,
            which replace common options of the same names, such as ``timeout``. A parameter whose type is an
            attrs class stands for the ``Annotated`` fields of the class.
    """
    _, *parameters = inspect.signature(body, eval_str=True).parameters.values()
    kinds = {parameter.name: parameter.annotation for parameter in parameters}
    groups = {name: kind for name, kind in kinds.items() if isinstance(kind, type) and attrs.has(kind)}
    group_options = {name: _options_of(group) for name, group in groups.items()}
    own = [option for parameter in parameters for option in group_options.get(parameter.name, [parameter])]
    own_names = {option.name for option in own}
    common_names = _COMMON.keys() - own_names
    if "output" not in own_names:
        common_names.discard("as_json")  # --json sets --output

    @wraps(body)
    def command(ctx: typer.Context, **options: Any) -> None:
        common = {name: options.pop(name) for name in common_names}
        if common.pop("as_json", False):
            # JSON, or JSON lines if there is no JSON.
            output: StrEnum = options["output"]
            formats = {member.value: member for member in type(output)}
            options["output"] = formats.get("json") or formats["jsonl"]
        with reported_errors(ctx.command_path, verbose=common.pop("verbose")):
            for name, group in groups.items():
                values = {option.name: options.pop(option.name) for option in group_options[name]}
                options[name] = group(**values)
            body(Api(command=ctx.command_path, **common), **options)

    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    added = [option for name, option in _COMMON.items() if name in common_names]
    # Typer reads the options from the signature.
    command.__dict__["__signature__"] = inspect.Signature([context, *own, *added])
    return command


def _option(name: str, annotation: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _options_of(group: type[attrs.AttrsInstance]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    fields = [field for field in attrs.fields(group) if get_origin(hints[field.name]) is Annotated]
    return [_option(field.name, hints[field.name], field.default) for field in fields]


_COMMON: dict[str, inspect.Parameter] = {
    "as_json": _option("as_json", AsJson, default=False),
    **{option.name: option for option in _options_of(Api)},
    "verbose": _option("verbose", Verbose, default=False),
}


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation on stderr, unless ``yes`` is true.

    Raises:
        CommandError: The reply is not yes, or stdin is not a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("cannot ask, since stdin is not a terminal: pass --yes", ExitCode.USAGE)
    write(f"{question} [y/N]: ", err=True)
    reply = ""
    try:
        reply = sys.stdin.readline()
    finally:
        if not reply.endswith("\n"):
            # After Ctrl-C or the end of stdin, end the prompt's line.
            write("\n", err=True)
    if reply.strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing was done")
