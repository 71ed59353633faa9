"""Lookup of disks by handle, and the check whether the API key may order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import primepods

from ._errors import CommandError
from ._handles import are_whole_ids, find_row

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
        error: The error that left the list incomplete, if any. With it, only ids are resolved.

    Raises:
        CommandError: A handle matches no disk, or several.
        PrimePodsError: ``error``, if a disk that could not be read might match.
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


def check_permission(user: primepods.Account, permission: str) -> None:
    """Check that the key has the permission to order; pass if the API does not report its permissions.

    Raises:
        CommandError: The key lacks the permission.
    """
    from primepods.config import KEY_PAGE

    if user.allows(*_NAMES[permission], write=True) is False:
        raise CommandError(
            f"the API key lacks the permission {permission.capitalize()} (Read and Write). Create a key with "
            f"it at {KEY_PAGE}"
        )


def check_own_permission(client: primepods.Client, permission: str) -> None:
    """Check the key of ``client`` with :func:`check_permission`; pass if its permissions cannot be read."""
    with suppress(primepods.PrimePodsError):
        check_permission(client.account.whoami(), permission)
