"""Questions that `primepods create` may ask in a terminal."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import typer

import primepods

from ._durations import parse_hours
from ._errors import CommandError, ExitCode
from ._offers import offer_id
from ._table import print_info

_MAX_OFFERS = 10


def can_ask() -> bool:
    """Return whether stdin and stderr are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(
    client: primepods.Client, program: str, disks: list[str] | None
) -> tuple[primepods.Offer, dict[str, Any], float | None]:
    """Ask for GPU, number of GPUs, offer, disk size, image and expiry; print a command with the answers.

    Args:
        client: Finds the offers.
        program: The command, such as ``primepods create``.
        disks: Ids of the disks that will be attached, if any.

    Returns:
        The offer, the fields of the order that the user chose, and the hours until the pod expires, if ever.

    Raises:
        CommandError: No offer fits, an answer is invalid, or stdin has ended.
    """
    from rich.console import Console
    from rich.prompt import IntPrompt, Prompt

    console = Console(stderr=True, highlight=False)

    def answer(question: str, default: str, choices: list[str] | None = None) -> str:
        return Prompt.ask(question, console=console, default=default, choices=choices, show_choices=False)

    try:
        gpu_type = answer("GPU, such as H100; * for any", "*")
        gpu_count = IntPrompt.ask("Number of GPUs", console=console, default=1)
        offers = client.availability.find(
            gpu_type=gpu_type, gpu_count=gpu_count, disks=disks, limit=_MAX_OFFERS
        )
        if not offers:
            machine = f"{gpu_count} x {'any GPU' if gpu_type == '*' else gpu_type}"
            raise CommandError(f"no machine with {machine} can be rented now: see `primepods offers`")
        numbers = [str(number) for number in range(1, len(offers) + 1)]
        for number, offer in zip(numbers, offers, strict=True):
            print_info(f"{number}: {offer}")
        offer = offers[int(answer("Offer", "1", numbers)) - 1]
        words = [offer_id(offer)]
        changes: dict[str, Any] = {}
        if (default := offer.disk.default_count) is not None:
            changes["disk_size"] = IntPrompt.ask("GB of disk", console=console, default=default)
            words += [] if changes["disk_size"] == default else ["--disk-size", str(changes["disk_size"])]
        if offer.images:
            print_info(f"Images: {', '.join(offer.images)}")
            changes["image"] = answer("Image", offer.images[0], list(offer.images))
            words += ["--image", changes["image"]]
        expiry = answer("Time until the pod expires, such as 2h (0 for never)", "0").strip()
        max_hours = None if expiry == "0" else parse_hours(expiry)
        words += [] if max_hours is None else ["--max-hours", expiry]
    except EOFError:
        raise CommandError("nothing was done") from None
    except typer.BadParameter as exc:
        raise CommandError(exc.message, ExitCode.USAGE) from None
    print_info(f"Without questions: {program} {shlex.join(words)}")
    return offer, changes, max_hours
