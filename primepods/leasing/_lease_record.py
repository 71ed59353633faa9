"""Content of a lease file: the pod, the API, a fingerprint of the key, and the process."""

from __future__ import annotations

import hashlib
import json
import math
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
from attrs.validators import instance_of, optional

from .._utils.unique_names import UniqueName, is_unique
from ..config import Settings, this_host

_VERSION: Final = 3
_MAX_TEXT: Final = 1_000


def _check_text(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise TypeError(attribute.name)
    value.encode()  # raises for an unpaired surrogate, which cannot be printed


def _check_price(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise TypeError(attribute.name)


def _to_name(value: Any) -> UniqueName:
    if not isinstance(value, str) or not is_unique(value):
        raise TypeError("name")
    return UniqueName(value)


@attrs.frozen(kw_only=True)
class LeaseRecord:
    """Content of a lease file. New fields need a default: files of earlier versions lack them.

    Attributes:
        name: The pod's unique name.
        pod_id: The pod's id; ``None`` while it is unknown.
        price_hr: Price per hour at the order, or else the order's maximum; ``None`` or 0 if unknown.
        base_url: Address of the API.
        key_fingerprint: Hash of the API key.
        team_id: The team for which the pod was rented, or ``None``.
        host: Name of the machine.
        boot_id: Id of the operating system's boot; ``None`` if unknown.
        pid_namespace: The namespace of ``pid``, such as a container's; ``None`` if unknown.
        pid: The process that holds the lease.
        process_start: When that process was started, in clock ticks since the boot; ``None`` if unknown.
        ordered_at: The server's time before the order or, later, at its response; this machine's time while
            the server's is unknown.
        given_up: Whether the process has left the file to sweeps.
        is_kept: Whether the user keeps the pod; sweeps then leave it alone unless it has expired.
    """

    name: UniqueName = attrs.field(converter=_to_name, validator=_check_text)
    pod_id: str | None = attrs.field(default=None, validator=optional(_check_text))
    price_hr: float | None = attrs.field(default=None, validator=optional(_check_price))
    base_url: str = attrs.field(validator=_check_text)
    key_fingerprint: str = attrs.field(validator=_check_text)
    team_id: str | None = attrs.field(default=None, validator=optional(_check_text))
    host: str = attrs.field(validator=_check_text)
    boot_id: str | None = attrs.field(default=None, validator=optional(_check_text))
    pid_namespace: str | None = attrs.field(default=None, validator=optional(_check_text))
    pid: int = attrs.field(validator=instance_of(int))
    process_start: int | None = attrs.field(default=None, validator=optional(instance_of(int)))
    ordered_at: datetime = attrs.field(validator=instance_of(datetime))
    given_up: bool = attrs.field(default=False, validator=instance_of(bool))
    is_kept: bool = attrs.field(default=False, validator=instance_of(bool))

    def may_be_orphaned(self, *, has_min_age: bool) -> bool:
        """Return whether a sweep should try to lock the file: the process has given up or may have ended.

        A process on another host cannot be checked. It counts as ended only with ``has_min_age``.
        """
        if self.given_up:
            return True
        if self.is_other_host:
            return has_min_age
        return self.process_start is None or self.is_dead

    @property
    def is_other_host(self) -> bool:
        """Whether the process runs on another machine, in another container, or ran before the last boot."""
        return (self.host, self.boot_id, self.pid_namespace) != this_host()

    def foreign_reason(self, settings: Settings) -> str | None:
        """Return why a client with these settings might not see the pod; ``None`` if the settings match."""
        # Under another key, or for another team, a 404 does not prove that a pod is gone.
        if self.base_url != settings.base_url:
            return f"it was rented at {self.base_url}"
        if self.key_fingerprint != fingerprint(settings):
            return "it was rented with another API key"
        if self.team_id == settings.team_id:
            return None
        if self.team_id is None:
            return "it belongs to no team (leave out --team or team_id)"
        return f"it belongs to team {self.team_id} (set --team or team_id to it)"

    @property
    def is_dead(self) -> bool:
        """Whether ``/proc`` shows that the process has ended; ``False`` if that is unknown."""
        if self.is_other_host or self.process_start is None:
            return False
        try:
            return _process_start(self.pid) != self.process_start
        except OSError:
            return False

    def to_line(self) -> bytes:
        """Return the record as a line of its file, without a newline."""
        data = {"version": _VERSION, **attrs.asdict(self), "ordered_at": self.ordered_at.isoformat()}
        return json.dumps(data).encode()


def parse_record(text: bytes) -> LeaseRecord:
    """Parse a lease file: its last complete line or, in version 2, the whole file.

    Raises:
        ValueError: It is not a lease file, or has an unknown version.
    """
    try:
        data = _last_object(text)
        if data["version"] != _VERSION:
            raise ValueError(f"it has version {data['version']!r}, and this primepods reads {_VERSION}")
        names = {field.name for field in attrs.fields(LeaseRecord)} & data.keys()
        fields: dict[str, Any] = {name: data[name] for name in names}
        fields["ordered_at"] = datetime.fromisoformat(fields["ordered_at"]).astimezone(UTC)
        return LeaseRecord(**fields)
    except (AttributeError, KeyError, TypeError, RecursionError, OverflowError):
        raise ValueError("it is not a lease file") from None


def _last_object(text: bytes) -> Any:
    for part in reversed(text.split(b"\n")):
        try:
            return json.loads(part)
        except ValueError:
            continue
    raise ValueError("it has no complete line")


def fingerprint(settings: Settings) -> str:
    return hashlib.blake2b(settings.api_key.encode(), digest_size=8, person=b"primepods").hexdigest()


def new_record(name: str, settings: Settings, now: float | None = None) -> LeaseRecord:
    """Return the record of a pod that this process is about to order.

    Args:
        name: The pod's unique name.
        settings: The client's settings.
        now: The server's time; by default this machine's.
    """
    return LeaseRecord(
        name=name,
        base_url=settings.base_url,
        key_fingerprint=fingerprint(settings),
        team_id=settings.team_id,
        ordered_at=as_time(settings.clock.wall() if now is None else now),
        **this_process(),
    )


def this_process() -> dict[str, Any]:
    """Return the fields of a record that identify this process."""
    host, boot_id, pid_namespace = this_host()
    started_at: int | None = None
    with suppress(OSError):
        started_at = _process_start(os.getpid())
    return {
        "host": host,
        "boot_id": boot_id,
        "pid_namespace": pid_namespace,
        "pid": os.getpid(),
        "process_start": started_at,
    }


def as_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _process_start(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since the boot.

    Returns:
        ``None`` if the process has ended or is a zombie, and on systems without ``/proc``.

    Raises:
        OSError: ``/proc`` cannot be read, for example because the process has no free descriptor.
    """
    try:
        # The command's name, in parentheses, may contain spaces, parentheses and invalid UTF-8.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        # Fields 3 and 22 in proc(5); the command's name is field 2.
        state, start = fields[0], fields[19]
        return None if state in {b"Z", b"X"} else int(start)
    except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
        return None
