"""``python -m primepods.emulator``: an emulator to leave running beside one's work."""

import argparse
import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .emulator import Emulator


def serve_forever(emulator: Emulator, *, announce: Callable[[str], None] | None = None) -> None:
    """Serve ``emulator`` until SIGINT or SIGTERM; call from the main thread, without a running loop.

    ``announce`` is given the URL and then the key, each as one line; by default they are printed and flushed.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(emulator, announce if announce is not None else _print))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; ``argv`` are the arguments after its name. Returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        emulator = _emulator(options)
        serve_forever(emulator)
        if options.state is not None:
            emulator.save(options.state)
    except (OSError, ValueError) as error:
        print(f"primepods emulator: {error}", flush=True)  # noqa: T201  this is a command
        return 1
    return 0


def _emulator(options: argparse.Namespace) -> Emulator:
    """What the options describe; started by hand, so that its control routes are on."""
    serving: dict[str, Any] = {
        "port": options.port,
        "speed": options.speed,
        "api_key": options.api_key,
        "control": True,
    }
    if options.state is not None and options.state.exists():
        return Emulator.load(options.state, **serving)
    return Emulator(pods=options.pods, seed=options.seed, boot_seconds=options.boot_seconds, **serving)


async def _serve(emulator: Emulator, announce: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Not every system lets a loop handle signals; there Ctrl-C ends asyncio.run itself.
    with suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    async with emulator:
        announce(emulator.url)
        announce(emulator.api_key)
        await stop.wait()


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201  this is a command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="primepods emulator", description="Serve a local stand-in for the Prime Intellect pods API."
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    parser.add_argument("--pods", type=int, default=0, help="pods at the start (default: 0)")
    parser.add_argument(
        "--seed", type=int, default=0, help="what everything random is drawn from (default: 0)"
    )
    parser.add_argument(
        "--boot-seconds", type=float, default=30.0, help="about how long a pod boots (default: 30)"
    )
    parser.add_argument(
        "--speed", type=float, default=1.0, help="emulated seconds per real second (default: 1)"
    )
    parser.add_argument(
        "--api-key",
        default=None,
        help="the only key that is accepted (default: a new random one)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=None,
        help="a JSON file to go on from, if it is there, and to save to",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
