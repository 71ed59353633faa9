"""What an account owns: disks, rights, teams, and a wallet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from ._utils.money import money
from ._utils.text import one_line
from .models import Model, PodState


@attrs.frozen(kw_only=True, repr=False)
class Disk(Model):
    """A disk that pods write to, and that outlives them: a row of ``GET /api/v1/disks/``."""

    _SUMMARY_FIELDS = ("id", "name", "status", "size", "provider_type", "price_hr", "pods")

    id: str
    """Id for ``PodSpec.disks`` and the calls of ``client.disks``."""
    name: str | None = None
    """Name of the disk; other disks may have the same one."""
    status: PodState | None = None
    """State: a disk has those of a pod. It can be used when it is ACTIVE."""
    size: int | None = None
    """Size in GB."""
    provider_type: str | None = None
    """Provider, such as ``hyperstack``."""
    price_hr: float | None = None
    """Price per hour."""
    stopped_price_hr: float | None = None
    """Price per hour while it is stopped."""
    provisioning_price_hr: float | None = None
    """Price per hour during provisioning."""
    info: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    """What else the API knows, such as ``country``, ``dataCenterId`` and ``cloudId``."""
    pods: tuple[str, ...] = ()
    """Ids of the pods to which it is attached."""
    clusters: tuple[str, ...] = ()
    """Ids of the clusters to which it is attached."""
    created_at: datetime | None = None
    """Time of the order."""
    updated_at: datetime | None = None
    """Time of the last change of its record."""
    terminated_at: datetime | None = None
    """Time at which it was deleted."""
    user_id: str | None = None
    """The user who created it."""
    team_id: str | None = None
    """The team that pays, if one does."""
    wallet_id: str | None = None
    """The wallet that pays."""

    def __str__(self) -> str:
        """Return one line for people: name, id, state, size, provider, price per hour, pods."""
        parts = [
            f"{self.name} ({self.id})" if self.name else self.id,
            self.status,
            None if self.size is None else f"{self.size:,} GB",
            self.provider_type,
            None if self.price_hr is None else f"{money(self.price_hr)} an hour",
            f"attached to {', '.join(self.pods)}" if self.pods else None,
        ]
        return " · ".join(one_line(part) for part in parts if part)


@attrs.frozen(kw_only=True)
class Permission(Model):
    """What a key may do with one kind of resource."""

    read: bool = False
    """True if it may look."""
    write: bool = False
    """True if it may create, change and delete."""


@attrs.frozen(kw_only=True, repr=False)
class Account(Model):
    """The user of a key, and the rights of the key: ``GET /api/v1/user/whoami``."""

    _SUMMARY_FIELDS = ("id", "name", "email", "team_id")

    id: str | None = None
    """Id of the user."""
    name: str | None = None
    """Name of the user."""
    email: str | None = None
    """Mail address of the user."""
    slug: str | None = None
    """User name."""
    role: str | None = None
    """``USER``, ``MANAGER``, ``ADMIN``, or a role added later."""
    team_id: str | None = None
    """The team for which the API answered, if any."""
    image: str | None = None
    """Address of the user's picture."""
    email_verified: bool | None = None
    """True if the mail address is confirmed."""
    has_beta_access: bool | None = None
    """True if the user has access to beta features."""
    is_banned: bool | None = None
    """True if the account is blocked."""
    skip_prepay: bool | None = None
    """True if the account need not pay in advance."""
    blacklist: tuple[str, ...] = ()
    """What the account may not use."""
    created_at: datetime | None = None
    """Time at which the account was made."""
    scope: Mapping[str, Permission | None] = attrs.field(factory=dict[str, "Permission | None"], hash=False)
    """What the key may do, by kind of resource; ``None`` for nothing."""

    def allows(self, *resources: str, write: bool = False) -> bool | None:
        """Return whether the key may read, or change, a resource; ``None`` if :attr:`scope` does not say.

        Args:
            resources: Its names in :attr:`scope`, in any case, such as ``"instances"``.
            write: Whether to ask for creating, changing and deleting.
        """
        names = {name.lower() for name in resources}
        found = [rights for name, rights in self.scope.items() if name.lower() in names]
        if not found:
            return None
        return any(rights is not None and (rights.write if write else rights.read) for rights in found)

    def __str__(self) -> str:
        """Return one line for people: name, mail address, id, team."""
        parts = [self.name, self.email, self.id, self.team_id and f"team {self.team_id}"]
        return " · ".join(one_line(part) for part in parts if part)


@attrs.frozen(kw_only=True)
class Team(Model):
    """A team of the user: a row of ``GET /api/v1/user/teams``."""

    team_id: str
    """Id for ``team_id`` of clients and orders."""
    name: str | None = None
    """Name of the team."""
    slug: str | None = None
    """Short name of the team."""
    role: str | None = None
    """The user's role: ``ADMIN``, ``MEMBER``, or one added later."""
    created_at: datetime | None = None
    """Time at which it was made."""


@attrs.frozen(kw_only=True)
class TeamMember(Model):
    """A member of a team: a row of ``GET /api/v1/teams/{id}/members``."""

    user_id: str
    """Id for ``PodSpec.team_member_ids``."""
    user_name: str | None = None
    """Name of the user."""
    user_email: str | None = None
    """Mail address of the user."""
    role: str | None = None
    """Role in the team."""
    joined_at: datetime | None = None
    """Time at which the user joined."""


@attrs.frozen(kw_only=True)
class BillingEntry(Model):
    """What one resource has cost so far: a row of the wallet."""

    id: str
    """Id of the row."""
    amount: float
    """What it has cost, in :attr:`currency`."""
    currency: str | None = None
    """Currency, such as ``USD``."""
    resource_type: str | None = None
    """``compute`` (pods), ``disks``, ``training``, ``inference``, ``sandboxes``, ``images``, or another."""
    resource_id: str | None = None
    """Id of the pod, disk or other resource."""
    created_at: datetime | None = None
    """Time of the first charge."""
    updated_at: datetime | None = None
    """Time of the last change."""
    last_billed_at: datetime | None = None
    """Time of the last charge."""


@attrs.frozen(kw_only=True, repr=False)
class Wallet(Model):
    """A wallet: its balance, and what has been paid from it."""

    _SUMMARY_FIELDS = ("wallet_id", "team_id", "balance", "currency", "total_billings")

    wallet_id: str
    """Id of the wallet."""
    balance: float
    """What is left, in :attr:`currency`."""
    currency: str | None = None
    """Currency, such as ``USD``."""
    team_id: str | None = None
    """The team whose wallet it is, if any."""
    total_billings: int | None = None
    """Number of rows that the API counts."""
    entries: tuple[BillingEntry, ...] = ()
    """The rows, the last charged first."""

    def __str__(self) -> str:
        """Return one line for people: the balance, and the number of rows."""
        count = "" if self.total_billings is None else f" · {self.total_billings:,} resources paid from it"
        return f"{money(self.balance, self.currency)} left{count}"
