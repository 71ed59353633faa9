"""`primepods run`: rent a pod, run one command on it, fetch the results, delete the pod."""

from __future__ import annotations

import difflib
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, cast

import typer

from .._shared.command import Api, api_command
from .._shared.copies import Exclude, ExcludeFrom, parse_download, parse_exclusion, parse_upload
from .._shared.durations import Interval, duration_option, parse_hours, typed_numbers
from .._shared.errors import CommandError, ExitCode
from .._shared.login_options import Env, EnvFile, SshOptions, parse_command, read_variables
from .._shared.offer_options import OfferFilters, OrderOptions, without_unset
from .._shared.options import flag, option, pod_option
from .._shared.table import print_info

_LOSSES = "Losses and the end"
_MAX_OFFERS = 5
"""Max number of offers to try, one after the other."""


def _as_list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _read_file(ctx: typer.Context, path: Path | None) -> Path | None:
    """Use the values in a TOML file as the defaults of the options."""
    import tomllib

    if path is None:
        return None
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a file")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise typer.BadParameter(f"{path} cannot be read: {exc}") from None
    options = {word.removeprefix("--"): option for option in ctx.command.params for word in option.opts}
    options["command"] = options.pop("words")
    for name, value in values.items():
        if name not in options or name == "file":
            near = difflib.get_close_matches(name, options, 1)
            raise typer.BadParameter(
                f"{path}: there is no option {name!r}{(near and f'; see {near[0]!r}') or ''}"
            )
        option = options[name]
        is_list = option.multiple or option.nargs != 1
        if not is_list and isinstance(value, list | dict):
            raise typer.BadParameter(f"{path}: {name} must be one value")
        if is_list and not all(isinstance(word, str) for word in _as_list(value)):
            raise typer.BadParameter(f"{path}: {name} must be a line or a list of words")
        # A number is parsed as if typed, since a duration needs a unit.
        default = str(value) if isinstance(value, int | float) else value
        ctx.default_map = {
            str(option.name): [default] if is_list and not isinstance(default, list) else default,
            **(ctx.default_map or {}),
        }
    return path


def _require_words(ctx: typer.Context, words: list[str] | None) -> list[str]:
    """Return the typed command or else the file's: older click ignores ``default_map`` for arguments."""
    found: list[str] = words or (ctx.default_map or {}).get("words") or []
    if not found:
        raise typer.BadParameter("it is missing, and no --file names it")
    return found


@api_command
def command(
    api: Api,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND",
            help="The command; a single word is a line for the pod's shell.",
            callback=_require_words,
        ),
    ] = None,
    *,
    filters: OfferFilters,
    upload: Annotated[
        list[str] | None,
        option(
            "Copy this to the pod; the command runs in the first uploaded folder. May be repeated.",
            "LOCAL[:REMOTE]",
        ),
    ] = None,
    exclude: Exclude = None,
    download: Annotated[
        list[str] | None,
        option(
            "Copy this from the pod afterwards, even if the command fails. May be repeated.", "REMOTE[:LOCAL]"
        ),
    ] = None,
    env: Env = None,
    max_hours: Annotated[
        float | None,
        option("Delete the pod after this time: 2h, 90m, or a number of hours.", "TIME", parser=parse_hours),
    ] = None,
    max_spend: Annotated[
        float | None, option("Delete the pod when the run has cost this much.", "AMOUNT")
    ] = None,
    detach: Annotated[
        bool,
        flag(
            "Exit once the command has started, and print the run's name for attach and stop.",
            "--detach",
            "-d",
        ),
    ] = False,
    keep: Annotated[
        bool,
        flag("Leave the pod running: it is billed until you delete it, without limit.", "--keep"),
    ] = False,
    restarts: Annotated[
        int | None,
        option(
            "Max number of restarts on another pod, if the provider terminates the pod.",
            "N",
            min=0,
            show_default="0, or 1 an item with --each",
        ),
    ] = None,
    each: Annotated[
        str | None,
        option(
            "Run the command for each line of this file, or of stdin (-), which replaces {} in it; a "
            "field of a JSON object replaces {name}.",
            "FILE",
            panel="Many items",
        ),
    ] = None,
    pods: Annotated[
        int | None,
        option(
            "Max number of pods at a time, each for one item after the other.", "N", panel="Many items", min=1
        ),
    ] = None,
    name: Annotated[str | None, option("Prefix of the pod's name.", "NAME")] = None,
    file: Annotated[
        Path | None,
        option(
            "TOML file with command and these options by their long names; typed options override it.",
            "FILE",
            is_eager=True,
            callback=_read_file,
        ),
    ] = None,
    exclude_from: ExcludeFrom = None,
    ssh: SshOptions,
    boot_timeout: Annotated[
        float,
        duration_option(
            "Delete a pod that is not ready after this time, and try the next offer.",
            show_default="30m",
            panel="The pod",
        ),
    ] = 1800.0,
    check: Annotated[
        str | None,
        pod_option(
            "Command that must succeed on a pod before it is used; else the next offer is tried. By "
            "default, each GPU must respond to nvidia-smi, without uncorrectable memory errors.",
            "CMD",
            show_default=False,
        ),
    ] = None,
    no_check: Annotated[
        bool,
        flag("Use a pod without checking its GPUs.", "--no-check", panel="The pod"),
    ] = False,
    interval: Interval = 5.0,
    env_file: EnvFile = None,
    order: OrderOptions,
    download_every: Annotated[
        float | None,
        duration_option(
            "Also fetch the results in this interval while the command runs.",
            panel=_LOSSES,
        ),
    ] = None,
    wind_down: Annotated[
        float,
        duration_option(
            "Time before a limit at which the command gets SIGTERM, at most a tenth of the limit. Half of it "
            "is the command's time to end, also after Ctrl-C.",
            show_default="5m",
            panel=_LOSSES,
        ),
    ] = 300.0,
    hold: Annotated[
        float | None,
        duration_option(
            "Hold the pod for this time if a result cannot be fetched, and try again each minute; 0s: not at "
            "all.",
            show_default="until the limit, or 1h; 10m without a terminal or --detach, or if the command "
            "fails in its first minute",
            panel=_LOSSES,
        ),
    ] = None,
    reconnect: Annotated[
        float,
        duration_option(
            "Give up the pod if it cannot be reached for this time; the command keeps running meanwhile.",
            show_default="15m",
            panel=_LOSSES,
        ),
    ] = 900.0,
    watchdog: Annotated[
        bool,
        flag(
            "Start a process on the pod that deletes it at the limit, and after the command, also while "
            "this machine sleeps. PRIMEPODS_WATCHDOG_KEY is its key.",
            "--watchdog",
            panel=_LOSSES,
        ),
    ] = False,
    after_job: Annotated[
        float | None,
        duration_option(
            "The watchdog deletes the pod this long after the command's end, if nobody fetches the results.",
            show_default="1h",
            panel=_LOSSES,
        ),
    ] = None,
    idle: Annotated[
        float | None,
        duration_option(
            "The watchdog deletes the pod if no GPU is above 5 % for this time.",
            panel=_LOSSES,
        ),
    ] = None,
    watchdog_key: Annotated[
        str | None,
        option("`own` puts your own API key on the pod, for the watchdog.", "own", panel=_LOSSES),
    ] = None,
) -> None:
    r"""Rent a pod for one command: log in, run it, fetch the results, delete the pod.

    Takes the cheapest offer that fits (by default with one GPU). If the offer is sold out, or the pod does
    not boot or accepts no login, takes the next offer. Without --detach, stdout, stderr and the exit code are
    the command's, and messages of primepods also go to stderr. Whatever ends the run, the command has time
    to end, its results are fetched, and the pod is deleted: see `primepods stop --help`. A second Ctrl-C
    deletes it at once. Does not ask for confirmation: limit the cost with --max-price, --max-hours and
    --max-spend.

    With --each, runs the command for many items on --pods pods: each line of output begins with its item,
    results go to LOCAL/ITEM/, the last line names the items that have failed, and the exit code is 1 if one
    has. If this process dies, `primepods attach` deletes the pods, without their results, and begins
    the items that have not ended again.

    Examples:
      primepods run --gpu-type H100 --gpu-count 8 --max-price 20 --max-hours 2 \
        --upload . --exclude .git --download out/:results/ -- python train.py
      primepods run --gpu-type A100 -- 'nvidia-smi && python -c "import torch"'
      primepods run --gpu-type H100 --each rates.txt --pods 4 --max-spend 50 \
        -- python train.py --lr {}
    """
    import primepods
    from primepods.config import environment_variable
    from primepods.runs import SHORT_HOLD, Run, RunRecord, check_each, check_run, create_run

    from ._background import run_here, run_in_background

    del file  # its values are the defaults of the other options
    if filters.gpu_type is None:
        raise CommandError("name the GPU: --gpu-type H100, or '*' for any", ExitCode.USAGE)
    if check is not None and no_check:
        raise CommandError("--check and --no-check cannot be combined", ExitCode.USAGE)
    if detach and sys.platform == "win32":
        raise CommandError("--detach needs Linux or macOS", ExitCode.USAGE)
    if detach and max_hours is None and max_spend is None:
        raise CommandError(
            "--detach needs --max-hours or --max-spend, since nobody watches the cost", ExitCode.USAGE
        )
    watchdog_options = without_unset({"api_key": watchdog_key, "after_job": after_job, "idle": idle})
    if watchdog_options and not watchdog:
        raise CommandError("--after-job, --idle and --watchdog-key need --watchdog", ExitCode.USAGE)
    if watchdog and (keep or (max_hours is None and max_spend is None)):
        raise CommandError("--watchdog needs --max-hours or --max-spend, and no --keep", ExitCode.USAGE)
    if watchdog_key not in {None, "own"}:
        problem = "--watchdog-key takes `own` only: a key here would show in lists of processes"
        raise CommandError(problem, ExitCode.USAGE)
    if watchdog and watchdog_key is None and not environment_variable("PRIMEPODS_WATCHDOG_KEY"):
        raise CommandError(
            "--watchdog needs a key of its own in PRIMEPODS_WATCHDOG_KEY, or --watchdog-key own",
            ExitCode.USAGE,
        )
    if (each is None) != (pods is None):
        raise CommandError("--each FILE and --pods N need each other", ExitCode.USAGE)
    typed = typed_numbers({"--max-hours": max_hours, "--wind-down": wind_down, "--hold": hold})
    if hold is None and each is None and not detach and not _has_terminal():
        hold = SHORT_HOLD
    items = [] if each is None else _read_items(each)
    variables = read_variables(env, env_file)
    uploads = [parse_upload(text) for text in upload or ()]
    record = RunRecord(
        client=api.account,
        find=filters.given() | {"limit": _MAX_OFFERS},
        changes=order.given() | without_unset({"name": name, "max_price": filters.max_price}),
        lease={
            "login": True,
            "check": None if no_check else check or primepods.GPU_CHECK,
            "ready_timeout": boot_timeout,
            "interval": interval,
            "max_hours": max_hours,
            "max_spend": max_spend,
            **ssh.arguments(),
        },
        ssh_key=order.ssh_key,
        command=parse_command(words or []),
        variables=list(variables),
        # Make local paths absolute, since `attach` may take the run over in another folder.
        uploads=[(str(path.absolute()), remote) for path, remote in uploads],
        workdir=next((remote for path, remote in uploads if path.is_dir()), None),
        exclude=exclude or [],
        exclude_from=[str(path.absolute()) for path in exclude_from or ()],
        downloads=[(remote, _absolute(local)) for remote, local in map(parse_download, download or ())],
        watchdog=watchdog_options if watchdog else None,
        keep=keep,
        wind_down=wind_down,
        hold=hold,
        download_every=download_every,
        typed=typed,
        reconnect=reconnect,
        restarts=restarts if restarts is not None else int(each is not None),
        pods=0 if pods is None else max(1, min(pods, len(items))),
        is_detached=detach,
        began_at=time.time(),
    )
    try:
        is_each = each is not None
        for warning in check_each(record, variables, items) if is_each else check_run(record, variables):
            print_info(warning)
    except ValueError as exc:
        raise CommandError(str(exc), ExitCode.USAGE) from None
    parse_exclusion(exclude, exclude_from)
    run = create_run(record, items) if is_each else Run.create(record)
    if detach:
        run_in_background(api, run, variables)
    raise typer.Exit(run_here(api, run, variables))


def _has_terminal() -> bool:
    """Return whether a terminal controls this process, also if its output is redirected."""
    with suppress(OSError):  # there is none, or this is Windows
        os.close(os.open("/dev/tty", os.O_RDONLY))
        return True
    return sys.stderr.isatty()


def _read_items(file: str) -> list[str]:
    """Return the lines of the file of --each, or of stdin, except blank ones."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise CommandError(f"--each {file} cannot be read: {exc}", ExitCode.USAGE) from None
    return [line.strip() for line in text.split("\n") if line.strip()]


def _absolute(local: str) -> str:
    return os.path.join(Path.cwd(), local)  # noqa: PTH118 - a Path has no slash at its end
