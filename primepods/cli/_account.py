"""Disks by their handles, and the rights of the key, for commands that order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import primepods
from primepods.config import KEY_PAGE

from ._errors import CommandError
from ._handles import are_whole_ids, find_row

_NAMES: Final = {"instances": ("instances", "pods"), "disks": ("disks",)}
"""Names of a right in a key's scope."""


def find_disks(client: primepods.Client, handles: Iterable[str]) -> list[primepods.Disk]:
    """Return the disks with these ids, beginnings of ids, or names; see :func:`choose_disks`."""
    return choose_disks(handles, *client.disks._listed().collect())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public list lacks rows that cannot be read


def choose_disks(
    handles: Iterable[str], disks: Sequence[primepods.Disk], error: primepods.PrimePodsError | None
) -> list[primepods.Disk]:
    """Return the disks with these ids, beginnings of ids, or names.

    Args:
        handles: The ids, beginnings of ids, or names.
        disks: The listed disks whose id can be read.
        error: The error of reading the list, if any: only whole ids are certain then.

    Raises:
        CommandError: A handle names no disk, or several.
        PrimePodsError: ``error``, for a handle that may be that of a disk that could not be read.
    """
    found: dict[str, primepods.Disk] = {}
    for handle in handles:
        is_listed = any(disk.id == handle for disk in disks)
        if error is not None and not is_listed and not are_whole_ids([handle]):
            raise error
        unlisted = [primepods.Disk(id=handle)] if error is not None and not is_listed else []
        disk = find_row(handle, [*disks, *unlisted], "disk", "primepods disks")
        found[disk.id] = disk
    return list(found.values())


def disk_ids(handles: Sequence[str] | None, client: primepods.Client) -> list[str]:
    """Return the ids of the disks of ``--disk``; list the disks only if there are any."""
    return [disk.id for disk in find_disks(client, handles)] if handles else []


def check_rights(user: primepods.Account, right: str) -> None:
    """Check that the key may order, as far as the API says.

    Raises:
        CommandError: It may not.
    """
    if user.allows(*_NAMES[right], write=True) is False:
        raise CommandError(
            f"the API key may not order: it lacks the permission {right.capitalize()}: Read and Write. Make "
            f"one at {KEY_PAGE}"
        )


def warn_of_rights(client: primepods.Client, right: str) -> None:
    """Check the rights of the key before an order is chosen; if they cannot be read, the order shows them."""
    with suppress(primepods.PrimePodsError):
        check_rights(client.account.whoami(), right)
