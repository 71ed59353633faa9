"""`primepods emulator`: a stand-in for the API to leave running beside one's work."""

from typing import Annotated

import typer


def command(  # noqa: PLR0913 - one parameter an option
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    pods: Annotated[int, typer.Option(min=0, max=100_000, help="Pods at the start.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same pods.")] = 0,
    boot_seconds: Annotated[float, typer.Option(min=0, help="About how long a pod boots.")] = 30.0,
    speed: Annotated[float, typer.Option(help="Emulated seconds in a real one.")] = 1.0,
    api_key: Annotated[
        str | None, typer.Option(help="The key to let in; made from the seed if absent.")
    ] = None,
) -> None:
    """Serve a local stand-in for the pods API until Ctrl-C.

    What it prints to stdout can be pasted into a shell, and sends every client started there to the emulator.
    """
    from primepods.emulator import Emulator  # noqa: PLC0415 - `--help` has no use for it
    from primepods.emulator.__main__ import serve_forever  # noqa: PLC0415 - as above

    try:
        emulator = Emulator(
            port=port,
            pods=pods,
            seed=seed,
            boot_seconds=boot_seconds,
            speed=speed,
            api_key=api_key,
            control=True,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    names = iter(("PRIME_API_BASE_URL", "PRIME_API_KEY"))
    typer.echo("Serving until Ctrl-C.", err=True)
    try:
        serve_forever(emulator, announce=lambda value: typer.echo(f"export {next(names)}={value}"))
    except OSError as error:
        typer.echo(f"primepods emulator: {error}", err=True)
        raise typer.Exit(1) from None
