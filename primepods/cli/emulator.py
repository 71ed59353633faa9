"""`primepods emulator`: a local API server, for one command or until Ctrl-C."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

import primepods

from ._shared.errors import SIGNAL_EXIT_CODE, CommandError, ExitCode, reported_errors
from ._shared.table import print_info, write

if TYPE_CHECKING:
    from primepods.emulator import Emulator
    from primepods.runs import Run

_RUN_TIMEOUT = 30.0
"""Max seconds to wait until background runs have ended."""
_POLL_INTERVAL = 0.1
_WATCHDOG_SCOPE = {"instances": {"read": True, "write": True}}
_LOCAL_SSH = shlex.join([sys.executable, "-m", "primepods.emulator.local_ssh"])
_SCAN_INTERVAL = 0.5
_MAX_SCANS = 20
"""Max searches for a pod's processes, which may start others during a search."""

Seed = Annotated[int, typer.Option(help="The same seed makes the same pods.", metavar="NUMBER")]
FailureRate = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the pods that fail to boot.", metavar="SHARE")
]


def command(
    ctx: typer.Context,
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND",
            help="Command to run against the emulator; when it ends, the emulator stops.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.", metavar="PORT")
    ] = 0,
    pods: Annotated[int, typer.Option(min=0, max=100_000, help="Pods at the start.", metavar="NUMBER")] = 0,
    history: Annotated[
        int, typer.Option(min=0, max=100_000, help="Rows of history at the start.", metavar="NUMBER")
    ] = 0,
    seed: Seed = 0,
    boot_seconds: Annotated[
        float, typer.Option(min=0, help="Typical boot time of a pod.", metavar="SECONDS")
    ] = 30.0,
    failure_rate: FailureRate = 0.0,
    spot_rate: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the pods, other than ordered ones, that the provider terminates; an ordered pod "
            "is terminated if its offer is a spot offer.",
            metavar="SHARE",
        ),
    ] = 0.0,
    stock: Annotated[
        int | None,
        typer.Option(min=0, help="Approximate stock of each offer; by default unlimited.", metavar="NUMBER"),
    ] = None,
    funds: Annotated[
        float | None, typer.Option(min=0, help="US dollars to spend; by default unlimited.", metavar="AMOUNT")
    ] = None,
    speed: Annotated[float, typer.Option(help="Emulated seconds per real second.", metavar="NUMBER")] = 1.0,
    api_key: Annotated[
        str | None, typer.Option(help="The valid API key; by default a new random one.", metavar="KEY")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="JSON file that keeps the state; if it exists, options from --pods to --funds are ignored.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Serve a local emulator of the pods API, for one command or until Ctrl-C.

    With a command after --, runs it with PRIME_API_BASE_URL and PRIME_API_KEY set, and exits with its exit
    code. Without a command, prints the export lines to run in the shell from which you start clients.

    Examples:
      primepods emulator --pods 20 -- primepods list
      primepods emulator -- primepods run --gpu-type H100 -- nproc  # runs here
      primepods emulator --failure-rate 0.2 --speed 60 -- pytest
    """
    import asyncio

    new_account: dict[str, Any] = {
        "pods": pods,
        "history": history,
        "seed": seed,
        "boot_seconds": boot_seconds,
        "failure_rate": failure_rate,
        "spot_rate": spot_rate,
        "stock": stock,
        "funds": funds,
    }
    server: dict[str, Any] = {"port": port, "speed": speed, "api_key": api_key, "control": True}
    code = 0
    with reported_errors(ctx.command_path):
        from primepods.emulator import Emulator

        if state is not None and state.exists():
            # Compare the name, since the enum is click's or typer's, depending on typer's version.
            sources = {name: ctx.get_parameter_source(name) for name in new_account}
            given = [name for name, source in sources.items() if source and source.name != "DEFAULT"]
            if given:
                options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
                print_info(f"Ignored, since {state} exists: {options}")
            emulator = Emulator.load(state, **server)
        else:
            emulator = Emulator(**new_account, **server)
        with ExitStack() as at_end:
            ssh_command = _LOCAL_SSH
            if state is None:
                ssh_command = at_end.enter_context(_machines(emulator))  # deletes the pods' home folders
            else:
                # Fail now if the file cannot be written, not when there is data to lose.
                emulator.save(state)
                at_end.callback(emulator.save, state)
            if words:
                code = _run(emulator, words, ssh_command)
            else:
                with suppress(KeyboardInterrupt):
                    asyncio.run(_serve(emulator, ssh_command))
    raise typer.Exit(code)


async def _serve(emulator: Emulator, ssh_command: str) -> None:
    """Serve until SIGINT or SIGTERM."""
    import asyncio

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # On Windows, event loops cannot handle signals, but Ctrl-C ends `asyncio.run`.
    with suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    async with emulator:
        print_info("Serving until Ctrl-C.")
        variables = {
            "PRIME_API_BASE_URL": emulator.url,
            "PRIME_API_KEY": emulator.api_key,
            "PRIMEPODS_WATCHDOG_KEY": emulator.add_api_key(_WATCHDOG_SCOPE),
            # Emulated pods have no machines behind their addresses.
            "PRIMEPODS_SSH_COMMAND": f"{ssh_command} --emulator {emulator.url}",
        }
        write("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
        await stop.wait()


def _run(emulator: Emulator, words: Sequence[str], ssh_command: str) -> int:
    """Run a command against the emulator; return its exit code as a shell reports it."""
    from primepods.config import child_environment

    with emulator, tempfile.TemporaryDirectory(prefix="primepods-emulator-") as leases:
        environment = child_environment(
            base_url=emulator.url,
            api_key=emulator.api_key,
            watchdog_key=emulator.add_api_key(_WATCHDOG_SCOPE),
            lease_folder=leases,
            ssh_command=f"{ssh_command} --emulator {emulator.url}",
        )
        try:
            code = _run_child(words, environment)
        except FileNotFoundError:
            raise CommandError(f"{words[0]}: not found", ExitCode.NOT_FOUND) from None
        except OSError as exc:
            raise CommandError(f"{words[0]}: {exc.strerror}", ExitCode.NOT_EXECUTABLE) from None
        with primepods.exit_on_sigterm():
            _end_runs(Path(leases))
    # After a signal, the code is minus the signal's number.
    return code if code >= 0 else SIGNAL_EXIT_CODE - code


def _end_runs(folder: Path) -> None:
    """Interrupt the live runs of a lease folder, and wait up to 30 s for them to end."""
    from primepods.runs import list_runs

    def is_live(run: Run) -> bool:
        with suppress(FileNotFoundError):  # a run without --detach deletes its record at its end
            return run.is_live
        return False

    runs = [run for run in list_runs(folder)[0] if is_live(run)]
    for run in runs:
        with suppress(FileNotFoundError, ProcessLookupError):  # the run has just ended
            run.signal(signal.SIGINT)
    ends_at = time.monotonic() + _RUN_TIMEOUT
    while any(map(is_live, runs)) and time.monotonic() < ends_at:
        time.sleep(_POLL_INTERVAL)


def _run_child(words: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command to its end, and return its exit code; forward SIGTERM to it.

    A terminal sends Ctrl-C to the child, too, so this process ignores it.
    """
    process: subprocess.Popen[bytes] | None = None
    is_terminated = False

    def terminate(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_terminated
        is_terminated = True
        if process is not None:
            process.terminate()

    previous = {
        signal.SIGINT: signal.signal(signal.SIGINT, _ignore),
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
    }
    try:
        process = subprocess.Popen(words, env=environment)  # noqa: S603 - the user's own
        if is_terminated:  # before there was a process
            process.terminate()
        return process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal. A child process would inherit SIG_IGN, but does not inherit this handler."""


@contextmanager
def _machines(emulator: Emulator) -> Generator[str]:
    """Yield a command to use instead of ``ssh``; it creates a home folder for each node.

    When a pod is gone, or the block ends, end the pod's processes and delete its homes.
    """
    folder = Path(tempfile.mkdtemp(prefix="primepods-pods-"))
    is_ended = threading.Event()

    def watch() -> None:
        while not is_ended.wait(_SCAN_INTERVAL):
            # List the homes before the pods: otherwise, the home of a new pod could seem to have no pod.
            if homes := list(folder.glob("*")):
                pods = map(emulator.pods.get, emulator.pods)
                hosts = {host for pod in pods if pod is not None for host in pod.addresses}
                _end(home for home in homes if home.name not in hosts)

    watching = threading.Thread(target=watch, name="primepods-machines", daemon=True)
    watching.start()
    try:
        yield f"{_LOCAL_SSH} --homes {shlex.quote(str(folder))}"
    finally:
        is_ended.set()
        watching.join()
        _end(folder.glob("*"))
        shutil.rmtree(folder, ignore_errors=True)


def _end(homes: Iterable[Path]) -> None:
    for home in homes:
        _end_processes(home)
        shutil.rmtree(home, ignore_errors=True)


def _end_processes(home: Path) -> None:
    """Kill the processes whose HOME is this folder, if the system has ``/proc``."""
    if sys.platform == "win32":
        return
    wanted = b"\0HOME=" + os.fsencode(home) + b"\0"
    for _ in range(_MAX_SCANS):
        is_found = False
        for file in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if wanted in b"\0" + file.read_bytes():
                    os.kill(int(file.parent.name), signal.SIGKILL)
                    is_found = True
        if not is_found:
            return
