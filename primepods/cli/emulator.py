"""`primepods emulator`: a stand-in for the API to leave running beside one's work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._errors import reported_errors
from ._table import write

if TYPE_CHECKING:
    from primepods.emulator import Emulator


def command(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.", metavar="PORT")
    ] = 0,
    pods: Annotated[int, typer.Option(min=0, max=100_000, help="Pods at the start.", metavar="NUMBER")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same pods.", metavar="NUMBER")] = 0,
    boot_seconds: Annotated[
        float, typer.Option(min=0, help="About how long a pod boots.", metavar="SECONDS")
    ] = 30.0,
    speed: Annotated[float, typer.Option(help="Emulated seconds in a real one.", metavar="NUMBER")] = 1.0,
    api_key: Annotated[
        str | None,
        typer.Option(help="The key to let in; by default a new random one.", metavar="KEY"),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="JSON file to go on from, if there, and to save to.", metavar="FILE"),
    ] = None,
) -> None:
    """Serve a local stand-in for the pods API until Ctrl-C.

    Prints two lines that a shell can evaluate: every client started there then talks to the emulator.

    Examples:
      primepods emulator --pods 20 >emulator.env & sleep 2
      source emulator.env && primepods list
    """
    from primepods.emulator.__main__ import serve_forever  # noqa: PLC0415 - `--help` has no use for it

    serving: dict[str, Any] = {"port": port, "speed": speed, "api_key": api_key, "control": True}
    names = iter(("PRIME_API_BASE_URL", "PRIME_API_KEY"))
    with reported_errors(ctx.command_path):
        emulator = _load(state, serving) or _new(pods, seed, boot_seconds, serving)
        if state is not None:
            # A file that cannot be written is told now, not when there is something to lose.
            emulator.save(state)
        typer.echo("Serving until Ctrl-C.", err=True)
        serve_forever(emulator, announce=lambda value: write(f"export {next(names)}={value}\n"))
        if state is not None:
            emulator.save(state)


def _load(state: Path | None, serving: dict[str, Any]) -> Emulator | None:
    from primepods.emulator import Emulator  # noqa: PLC0415 - `--help` has no use for it

    return Emulator.load(state, **serving) if state is not None and state.exists() else None


def _new(pods: int, seed: int, boot_seconds: float, serving: dict[str, Any]) -> Emulator:
    from primepods.emulator import Emulator  # noqa: PLC0415 - `--help` has no use for it

    return Emulator(pods=pods, seed=seed, boot_seconds=boot_seconds, **serving)
