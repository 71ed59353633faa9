"""Models of an account: disks, permissions, teams, and the wallet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from .._utils.money import money
from .._utils.text import one_line
from . import Model, PodState


@attrs.frozen(kw_only=True, repr=False)
class Disk(Model):
    """A disk that can be attached to pods and outlives them: a row of ``GET /api/v1/disks/``.

    Attributes:
        id: Id for ``PodSpec.disks`` and the calls of ``client.disks``.
        name: Name of the disk; other disks may have the same name.
        status: State of the disk; an ACTIVE disk can be used.
        size: Size in GB.
        provider_type: Provider, such as ``hyperstack``.
        price_hr: Price per hour.
        stopped_price_hr: Price per hour while the disk is stopped.
        provisioning_price_hr: Price per hour during provisioning.
        info: Other data, such as ``country``, ``dataCenterId`` and ``cloudId``.
        pods: Ids of the pods to which the disk is attached.
        clusters: Ids of the clusters to which the disk is attached.
        created_at: Time of the order.
        updated_at: Time of the last change.
        terminated_at: Time of the disk's deletion.
        user_id: The user who created the disk.
        team_id: The team that pays, if one does.
        wallet_id: The wallet that pays.
    """

    _SUMMARY_FIELDS = ("id", "name", "status", "size", "provider_type", "price_hr", "pods")

    id: str
    name: str | None = None
    status: PodState | None = None
    size: int | None = None
    provider_type: str | None = None
    price_hr: float | None = None
    stopped_price_hr: float | None = None
    provisioning_price_hr: float | None = None
    info: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    pods: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    terminated_at: datetime | None = None
    user_id: str | None = None
    team_id: str | None = None
    wallet_id: str | None = None

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
    """Permission of a key for one kind of resource.

    Attributes:
        read: True if the key may read.
        write: True if the key may create, change and delete.
    """

    read: bool = False
    write: bool = False


@attrs.frozen(kw_only=True, repr=False)
class Account(Model):
    """The user of a key, and the key's permissions: ``GET /api/v1/user/whoami``.

    Attributes:
        id: Id of the user.
        name: Name of the user.
        email: Mail address of the user.
        slug: User name.
        role: ``USER``, ``MANAGER``, ``ADMIN``, or a value that the API adds later.
        team_id: Id of the team that the API reports, if any.
        image: URL of the user's picture.
        email_verified: True if the mail address is confirmed.
        has_beta_access: True if the user has access to beta features.
        is_banned: True if the account is blocked.
        skip_prepay: True if the account does not have to pay in advance.
        blacklist: Resources that the account may not use.
        created_at: Time at which the account was created.
        scope: The key's permissions, by kind of resource; ``None`` where the API does not say.
    """

    _SUMMARY_FIELDS = ("id", "name", "email", "team_id")

    id: str | None = None
    name: str | None = None
    email: str | None = None
    slug: str | None = None
    role: str | None = None
    team_id: str | None = None
    image: str | None = None
    email_verified: bool | None = None
    has_beta_access: bool | None = None
    is_banned: bool | None = None
    skip_prepay: bool | None = None
    blacklist: tuple[str, ...] = ()
    created_at: datetime | None = None
    scope: Mapping[str, Permission | None] = attrs.field(factory=dict[str, "Permission | None"], hash=False)

    def allows(self, *resources: str, write: bool = False) -> bool | None:
        """Return whether the key may read (or write) a kind of resource; ``None`` if ``scope`` does not say.

        Args:
            resources: Possible names of the kind in ``scope``, such as ``"instances"``; case is ignored.
            write: Whether to check the permission to create, change and delete, not the one to read.
        """
        names = {name.lower() for name in resources}
        found = [rights for name, rights in self.scope.items() if rights and name.lower() in names]
        return any(rights.write if write else rights.read for rights in found) if found else None

    def __str__(self) -> str:
        """Return one line for people: name, mail address, id, team."""
        parts = [self.name, self.email, self.id, self.team_id and f"team {self.team_id}"]
        return " · ".join(one_line(part) for part in parts if part)


@attrs.frozen(kw_only=True)
class Team(Model):
    """A team of the user: a row of ``GET /api/v1/user/teams``.

    Attributes:
        team_id: Id for ``team_id`` of clients and orders.
        name: Name of the team.
        slug: Short name of the team.
        role: The user's role: ``ADMIN``, ``MEMBER``, or a value that the API adds later.
        created_at: Time at which the team was created.
    """

    team_id: str
    name: str | None = None
    slug: str | None = None
    role: str | None = None
    created_at: datetime | None = None


@attrs.frozen(kw_only=True)
class TeamMember(Model):
    """A member of a team: a row of ``GET /api/v1/teams/{id}/members``.

    Attributes:
        user_id: Id for ``PodSpec.team_member_ids``.
        user_name: Name of the user.
        user_email: Mail address of the user.
        role: Role in the team.
        joined_at: Time at which the user joined.
    """

    user_id: str
    user_name: str | None = None
    user_email: str | None = None
    role: str | None = None
    joined_at: datetime | None = None


@attrs.frozen(kw_only=True)
class BillingEntry(Model):
    """Cost of one resource so far: a row of the wallet.

    Attributes:
        id: Id of the row.
        amount: Cost of the resource, in ``currency``.
        currency: Currency, such as ``USD``.
        resource_type: ``compute`` (pods), ``disks``, ``training``, ``inference``, ``sandboxes``, ``images``,
            or another.
        resource_id: Id of the pod, disk or other resource.
        created_at: Time at which the row was created.
        updated_at: Time of the last change of the row.
        last_billed_at: Time of the last charge.
    """

    id: str
    amount: float
    currency: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_billed_at: datetime | None = None


@attrs.frozen(kw_only=True, repr=False)
class Wallet(Model):
    """A wallet, with its balance and the costs of resources that are paid from it.

    Attributes:
        wallet_id: Id of the wallet.
        balance: Balance, in ``currency``.
        currency: Currency, such as ``USD``.
        team_id: The team to which the wallet belongs, if any.
        total_billings: Number of entries according to the API; ``entries`` may have fewer.
        entries: Costs of single resources, the last charged first.
    """

    _SUMMARY_FIELDS = ("wallet_id", "team_id", "balance", "currency", "total_billings")

    wallet_id: str
    balance: float
    currency: str | None = None
    team_id: str | None = None
    total_billings: int | None = None
    entries: tuple[BillingEntry, ...] = ()

    def __str__(self) -> str:
        """Return one line for people: the balance, and the number of entries."""
        count = "" if self.total_billings is None else f" · {self.total_billings:,} resources paid from it"
        return f"{money(self.balance, self.currency)} left{count}"
