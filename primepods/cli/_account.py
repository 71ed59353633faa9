"""Lookup of disks by handle, and check of the key's permissions, for commands that order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import primepods
from primepods.config import KEY_PAGE

from ._errors import CommandError, ExitCode
from ._handles import MIN_PREFIX, are_whole_ids

_NAMES: Final = {"instances": ("instances", "pods"), "disks": ("disks",)}
"""Names in a key's scope, by permission."""


def find_disks(client: primepods.Client, handles: Iterable[str]) -> list[primepods.Disk]:
    """Return the disks with these ids, id prefixes or names; see :func:`choose_disks`."""
    return choose_disks(handles, *client.disks._listed().collect())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public list lacks rows that cannot be read


def choose_disks(
    handles: Iterable[str], disks: Sequence[primepods.Disk], error: primepods.PrimePodsError | None
) -> list[primepods.Disk]:
    """Return the disks with these ids, id prefixes or names.

    Args:
        handles: The ids, id prefixes or names.
        disks: The listed disks whose id can be read.
        error: The error that left the list incomplete, if any. With it, only whole ids are resolved.

    Raises:
        CommandError: A handle matches no disk, or several.
        PrimePodsError: ``error``, if a disk that could not be read might match.
    """
    found: dict[str, primepods.Disk] = {}
    for handle in handles:
        matches = [disk for disk in disks if disk.id == handle]
        if not matches and error is not None:
            if not are_whole_ids([handle]):
                raise error
            matches = [primepods.Disk(id=handle)]
        matches = matches or [
            disk
            for disk in disks
            if disk.name == handle or (len(handle) >= MIN_PREFIX and disk.id.startswith(handle))
        ]
        if len(matches) != 1:
            ids = ", ".join(disk.id for disk in matches)
            several = f"matches several disks: {ids}. Give an id"
            reason = several if matches else "is not a disk: see primepods disks"
            raise CommandError(f"{handle!r} {reason}", ExitCode.USAGE)
        found[matches[0].id] = matches[0]
    return list(found.values())


def find_disk_ids(handles: Sequence[str] | None, client: primepods.Client) -> list[str]:
    """Return the ids of the disks of ``--disk``; without the option, send no request."""
    return [disk.id for disk in find_disks(client, handles)] if handles else []


def check_rights(user: primepods.Account, permission: str) -> None:
    """Check that the key has the permission to order; pass if the API does not report its permissions.

    Raises:
        CommandError: It lacks the permission.
    """
    if user.allows(*_NAMES[permission], write=True) is False:
        raise CommandError(
            f"the API key lacks the permission {permission.capitalize()} (Read and Write). Create a key with "
            f"it at {KEY_PAGE}"
        )


def warn_of_rights(client: primepods.Client, permission: str) -> None:
    """Check the client's key before the user chooses; if its permissions cannot be read, the order may fail.

    Raises:
        CommandError: It lacks the permission.
    """
    with suppress(primepods.PrimePodsError):
        check_rights(client.account.whoami(), permission)
