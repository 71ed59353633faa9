"""The root command: its subcommands and global options."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache, partial
from importlib import import_module
from typing import Annotated, Any, cast

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

import primepods

from ._shared.command import BaseUrl, Context, Team, Timeout, Verbose
from ._shared.errors import EXIT_CODES, ExitCode, print_error
from ._shared.options import flag
from ._shared.table import paint

_ALIASES = {
    "ls": "list",
    "ps": "list",
    "rm": "delete",
    "terminate": "delete",
    "connect": "ssh",
    "inspect": "get",
    "describe": "get",
    "show": "get",
    "disks list": "disks",
    "disks terminate": "disks delete",
    "ssh-keys": "ssh-keys list",
}
"""Other names of commands, most of them from docker, hcloud and `prime`."""
_HINTS = {
    "login": "Save a key with `prime login`, or set PRIME_API_KEY; `primepods config` shows what is used.",
    "logout": "Unset PRIME_API_KEY, or remove the saved key: `primepods config` shows where it is.",
    "start": "A pod starts when it is ordered; see `primepods create`.",
    "top": "`primepods watch` shows your pods as they change.",
    "version": "Use `primepods --version`.",
}
"""Hints for commands that only other programs have."""


_COMMANDS = {
    "list": ("Pods", "pods.list_pods.command"),
    "get": ("Pods", "pods.status.get"),
    "status": ("Pods", "pods.status.status"),
    "watch": ("Pods", "pods.watch.command"),
    "wait": ("Pods", "pods.status.wait"),
    "logs": ("Pods", "pods.logs.command"),
    "ssh": ("Pods", "login.ssh.ssh"),
    "exec": ("Pods", "login.exec_command.command"),
    "cp": ("Pods", "login.cp.command"),
    "forward": ("Pods", "login.forward.forward"),
    "jupyter": ("Pods", "login.forward.jupyter"),
    "code": ("Pods", "login.ssh.code"),
    "ssh-config": ("Pods", "login.ssh_config.command"),
    "run": ("Renting", "running.run.command"),
    "runs": ("Renting", "running.runs.command"),
    "attach": ("Renting", "running.runs.attach"),
    "stop": ("Renting", "running.runs.stop"),
    "offers": ("Renting", "pods.offers.command"),
    "create": ("Renting", "pods.create.command"),
    "delete": ("Renting", "pods.delete.command"),
    "history": ("Renting", "pods.history.command"),
    "sweep": ("Renting", "pods.sweep.command"),
    "disks": ("Account", "pods.disks.command"),
    "disks create": ("Account", "pods.disks.create"),
    "disks rename": ("Account", "pods.disks.rename"),
    "disks delete": ("Account", "pods.disks.delete"),
    "whoami": ("Account", "account.whoami"),
    "teams": ("Account", "account.teams"),
    "wallet": ("Account", "account.wallet"),
    "ssh-keys list": ("Account", "account.list_keys"),
    "ssh-keys add": ("Account", "account.add_key"),
    "ssh-keys delete": ("Account", "account.delete_key"),
    "exporter": ("More", "exporter.command"),
    "config": ("More", "account.config"),
    "doctor": ("More", "doctor.command"),
    "demo": ("More", "demo.command"),
    "emulator": ("More", "emulator.command"),
    "mcp": ("More", "agents.mcp.command"),
    "skill": ("More", "agents.skill.command"),
    "_run": (None, "running.runs.background"),
}
"""Panel in the help (``None`` for a hidden command) and function of each command."""


def _format_options(self: Any, ctx: Any, formatter: Any) -> None:
    """Write a section of the help for each panel; for typer's own panels, rich would be imported."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in self.get_params(ctx):
        panel = "Arguments" if isinstance(parameter, TyperArgument) else "Options"
        if record := parameter.get_help_record(ctx):
            sections.setdefault(getattr(parameter, "rich_help_panel", None) or panel, []).append(record)
    for name in self.list_commands(ctx) if isinstance(self, _Root) else ():
        if title := _COMMANDS[name][0]:
            sections.setdefault(title, []).append((name, _help(_load(name)).partition("\n\n")[0]))
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl([(paint(name, "bold"), text) for name, text in records])


class _Command(TyperCommand):
    """Command whose help refers to the main help for the options of the panel Connection."""

    format_options = _format_options

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse words of a COMMAND before its `--`: a shell puts them there for an unquoted pattern."""
        for parameter in self.params:
            if "--" in args and parameter.metavar == "-- COMMAND":
                before = args[: args.index("--")]
                values, _, _ = self.make_parser(ctx).parse_args(before)
                if words := values.get(parameter.name or ""):
                    ctx.fail(f"{words[0]!r} stands before `--`. Quote patterns for primepods, such as '*.pt'")
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        parameters = _adjust(super().get_params(ctx))
        common = [option for option in parameters if getattr(option, "rich_help_panel", None) == "Connection"]
        for option in common:
            option.hidden = not ctx.resilient_parsing  # completed nevertheless
        if common:
            self.epilog = (
                f"See `primepods --help` for {', '.join(max(option.opts, key=len) for option in common)}."
            )
        return parameters


def _load(name: str) -> Callable[..., None]:
    """Import a command's module, and return the command's function."""
    module, _, function = _COMMANDS[name][1].rpartition(".")
    body: Callable[..., None] = getattr(import_module(f".{module}", __package__), function)
    return body


@cache
def _build_command(name: str) -> Any:
    body = _load(name)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, cls=_Command, help=_help(body), hidden=_COMMANDS[name][0] is None)(body)
    return typer.main.get_command(single)


class _Root(TyperGroup):
    """Group of all commands, with aliases, hints, and usage errors of one line."""

    format_options = _format_options

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast("Any", dict.fromkeys(_COMMANDS))  # their names only: see `get_command`

    def get_params(self, ctx: Any) -> list[Any]:
        return _adjust(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, without importing their modules."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        name = _ALIASES.get(cmd_name, cmd_name)
        return _build_command(name) if name in _COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # A command's name may have two words.
        if (name := " ".join(args[:2])) in {*_COMMANDS, *_ALIASES}:
            args = [name, *args[2:]]
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's signature
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002 - click's signature
        **extra: Any,
    ) -> Any:
        """Run a command, and exit with its code; if ``standalone_mode`` is false, return its result."""
        words = list(sys.argv[1:] if args is None else args)
        if words[:1] == ["help"]:
            words = [*words[1:], "--help"]
        run = partial(
            super().main,
            words,
            prog_name,
            complete_var=complete_var,
            standalone_mode=False,
            windows_expand_args=windows_expand_args,
            **extra,
        )
        if not standalone_mode:
            return run()
        if words and words[0] in _HINTS:
            print_error(f"primepods {words[0]}", f"there is no such command. {_HINTS[words[0]]}")
            sys.exit(ExitCode.USAGE)
        try:
            code = run()
            if not code:
                # Let a full disk or a closed pipe raise OSError here, not at exit. After a failure, this
                # error would replace the exit code.
                sys.stdout.flush()
        except typer.Abort:
            code = ExitCode.INTERRUPTED
        except SystemExit as error:
            # Typer exits with 1 after a closed pipe.
            if not isinstance(error.__context__, BrokenPipeError):
                raise
            code = ExitCode.BROKEN_PIPE
        except OSError as error:
            print_error("primepods", error)
            code = ExitCode.FAILED
        except Exception as error:
            # Typer has no public base class of usage errors, but they have the method `format_message`.
            if not hasattr(error, "format_message"):
                raise
            code = _print_usage_error(error)
        sys.exit(code if isinstance(code, int) else 0)


def _adjust(parameters: list[Any]) -> list[Any]:
    """Remove Python types such as ``<list[str]>`` from the help of flags and arguments; see `_process_value`.

    Other options show their ``metavar`` or their choices instead of a type.
    """
    for parameter in parameters:
        # Typer has no setting for its class of options, and type checkers reject assignments to methods.
        methods = cast("dict[str, Any]", vars(parameter))
        methods.setdefault("process_value", partial(_process_value, parameter, parameter.process_value))
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif isinstance(parameter, TyperArgument):
            # The metavar is the argument's name in the help, so replace the method that shows the type.
            methods["display_type_rich"] = _no_type
    return parameters


def _no_type(**_: object) -> str:
    return ""


def _process_value(parameter: Any, process: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    """Return defaults, and words that TAB completes, unchanged: to check others, typer imports pydantic."""
    if ctx.resilient_parsing:
        return value
    is_default = value is parameter.default and isinstance(value, float | StrEnum | None)
    if parameter.required or not is_default:
        return process(ctx, value)
    if value is None and (parameter.multiple or parameter.nargs == -1):
        value = ()
    return value if parameter.callback is None else parameter.callback(ctx, parameter, value)


def _print_usage_error(error: Any) -> int:
    command = error.ctx.command_path if getattr(error, "ctx", None) else "primepods"
    message = error.format_message().rstrip(".").replace(": Value error, ", ": ", 1)
    message = re.sub(r": Input should be ([^:]*?)(, unable to parse [^:]*)?$", r": it must be \1", message)
    period = "" if message.endswith("?") else "."
    may_be_for_pod = command.endswith((" exec", " run")) and message.startswith("No such option")
    hint = " Put the pod's command after `--`." if may_be_for_pod else ""
    print_error(command, f"{message}{period}{hint} See `{command} --help`.")
    return int(error.exit_code)


def _show_version(wanted: object) -> None:
    if wanted:
        typer.echo(f"primepods {primepods.__version__}")
        raise typer.Exit


def _help(command: Callable[..., None]) -> str:
    """Return a command's docstring as help, where only paragraphs without indented lines are wrapped."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(f"\b\n{text}" if "\n  " in text else text.replace("\n", " ") for text in paragraphs)


_EPILOG = (
    "Most commands need an API key: set PRIME_API_KEY, or save one with `prime login`. Without an account, "
    "try `primepods demo`.\n\n"
    f"Exit codes: {EXIT_CODES}. `exec` and `run` exit with the code of their command."
)

# Typer's own tracebacks are off: they show local variables, which may contain the key.
app: typer.Typer = typer.Typer(
    cls=_Root,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


@app.callback(epilog=_EPILOG)
def _root(
    ctx: typer.Context,
    *,
    base_url: BaseUrl = None,
    context: Context = None,
    team: Team = None,
    timeout: Timeout = None,
    verbose: Verbose = False,
    version: Annotated[
        bool, flag("Show the version.", "--version", "-v", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Run GPU pods on Prime Intellect: find, order, watch, use and delete them."""
    del version
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        return
    given = {"base_url": base_url, "context": context, "team": team, "timeout": timeout}
    given = {name: value for name, value in given.items() if value is not None}
    # Make these the defaults of the subcommand. Options after the subcommand override them.
    ctx.default_map = {ctx.invoked_subcommand: given | ({"verbose": True} if verbose else {})}
