"""What the API answers, as frozen values.

A field is the wire's name in snake_case. Fields that this version does not know are kept in ``extra``.
Times are timezone-aware, prices the API's currency per hour. A field that the answer lacks is ``None`` (or an
empty tuple), never a default that the server did not send. From the page `Managing Pods
<https://docs.primeintellect.ai/api-reference/managing-pods>`_ and its schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import urlsplit

import attrs

from .ssh import SSHTarget, parse_ssh

T_co = TypeVar("T_co", covariant=True)


class _NoExtra(dict[str, Any]):
    """The one empty ``extra`` that all models share; refuses to be filled.

    A ``dict``, so that models pickle, copy and, through ``attrs.asdict``, become JSON.
    """

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        msg = "The extra of a model cannot be changed."
        raise TypeError(msg)

    __setitem__ = __ior__ = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]

    def __reduce__(self) -> str:
        return "NO_EXTRA"


NO_EXTRA: Mapping[str, Any] = _NoExtra()
_JUPYTER_PORT = "8888"
_FULL_PROGRESS = 100
_HIGHEST_PORT = 65_535


class _OpenEnum(StrEnum):
    """A vocabulary that grows: an unknown word becomes a value of its own, equal to its string."""

    @classmethod
    def _missing_(cls, value: object) -> _OpenEnum | None:
        if not isinstance(value, str):
            return None
        # Not registered as a member, so that a million strange words cost no memory.
        word = str.__new__(cls, value)
        word._name_ = value
        word._value_ = value
        return word

    def __repr__(self) -> str:
        # The word of a server that we do not know may hold anything, so it is shown escaped.
        return super().__repr__() if self.is_known else f"{type(self).__name__}({str(self)!r})"

    @property
    def is_known(self) -> bool:
        """Whether this version of the package knows the word."""
        return self._name_ in type(self).__members__


class PodState(_OpenEnum):
    """Life of a pod. There is no RUNNING and no FAILED: a running pod is ACTIVE, a failed one ERROR."""

    PROVISIONING = "PROVISIONING"
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STOPPED = "STOPPED"
    ERROR = "ERROR"
    DELETING = "DELETING"
    UNKNOWN = "UNKNOWN"
    TERMINATED = "TERMINATED"


class InstallationState(_OpenEnum):
    """Progress of the image's installation on a pod that is ACTIVE."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    FINISHED = "FINISHED"
    ERROR = "ERROR"
    TERMINATED = "TERMINATED"


_STOPPED_OR_ENDING = frozenset({PodState.STOPPED, PodState.DELETING, PodState.TERMINATED})
_NOT_INSTALLED = frozenset({InstallationState.ERROR, InstallationState.TERMINATED})


def _in_order(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Put the id first, where a reader of the ``repr`` looks for it, and ``extra`` last, inherited or not."""
    return sorted(fields, key=lambda field: (field.name == "extra", field.name not in {"id", "pod_id"}))


@attrs.frozen(kw_only=True)
class Model:
    """What has its counterpart in the API's schema."""

    extra: Mapping[str, Any] = attrs.field(default=NO_EXTRA, repr=False, hash=False)


@attrs.frozen(kw_only=True, field_transformer=_in_order)
class PortMapping(Model):
    """One port of a pod that can be reached from outside.

    Attributes:
        internal: Port in the pod; a number, or ``*`` for any.
        external: Where it is reached: a port number, a whole URL, or ``*`` for the same port.
        protocol: ``TCP`` or ``UDP``.
        used_by: ``SSH``, ``JUPYTER_NOTEBOOK``, ``WEB_SERVER``, or a word added later.
        description: Free text.
    """

    internal: str
    external: str
    protocol: str | None = None
    used_by: str | None = None
    description: str | None = None


@attrs.frozen(kw_only=True, field_transformer=_in_order)
class Resources(Model):
    """What the machine has.

    Attributes:
        memory: RAM in GB.
        disk: Disk in GB.
        shared_disk: Shared disk in GB.
        vcpus: Virtual CPUs.
    """

    memory: int | None = None
    disk: int | None = None
    shared_disk: int | None = None
    vcpus: int | None = None


@attrs.frozen(kw_only=True, field_transformer=_in_order)
class AttachedResource(Model):
    """A disk attached to a pod.

    Attributes:
        id: Its id, as text whatever the wire had.
        resource_type: ``DISK``.
        size: In GB; text where the API sends a unit with it.
    """

    id: str
    resource_type: str | None = None
    status: str | None = None
    is_detachable: bool | None = None
    mount_path: str | None = None
    resource_path: str | None = None
    size: int | str | None = None
    is_shared: bool | None = None


@attrs.frozen(kw_only=True)
class Node:
    """One machine of a pod.

    Attributes:
        ip: Its address, once it has one.
        ssh: How to log in, once that is known.
    """

    ip: str | None
    ssh: SSHTarget | None


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where a port of a pod is reached.

    Attributes:
        host: Host name or address.
        port: Port number.
        url: The URL that the API gave, else ``http://host:port``.
    """

    host: str
    port: int
    url: str


@attrs.frozen(kw_only=True)
class _Machine(Model):
    """What a pod and its status row have in common, and what can be told from it."""

    status: PodState | None = None
    installation_status: InstallationState | None = None
    installation_failure: str | None = None
    installation_progress: int | None = None
    prime_port_mapping: tuple[PortMapping, ...] = ()
    ssh_connection: str | tuple[str | None, ...] | None = None
    ip: str | tuple[str | None, ...] | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The pod's machines in the API's order: one, or several for a multi-node pod."""
        ssh = _as_nodes(self.ssh_connection)
        ips = _as_nodes(self.ip)
        count = max(len(ssh), len(ips))
        ssh += (None,) * (count - len(ssh))
        ips += (None,) * (count - len(ips))
        return tuple(Node(ip=ip or None, ssh=parse_ssh(line)) for ip, line in zip(ips, ssh, strict=True))

    @property
    def ssh(self) -> SSHTarget | None:
        """How to log in to the first node that can be reached; ``None`` while there is none."""
        return next((node.ssh for node in self.nodes if node.ssh is not None), None)

    @property
    def is_installed(self) -> bool:
        """Whether the installation is finished: it says so, is at 100 %, or reports nothing at all."""
        if self.installation_status in _NOT_INSTALLED:
            return False
        if self.installation_status == InstallationState.FINISHED:
            return True
        if self.installation_progress is not None:
            return self.installation_progress >= _FULL_PROGRESS
        return self.installation_status is None and self.installation_failure is None

    @property
    def has_address(self) -> bool:
        """Whether every node has an address."""
        nodes = self.nodes
        return bool(nodes) and all(node.ip or node.ssh for node in nodes)

    @property
    def is_ready(self) -> bool:
        """Whether it can be used: ACTIVE, installed, an address for every node."""
        return self.status == PodState.ACTIVE and self.is_installed and self.has_address

    @property
    def has_failed(self) -> bool:
        """Whether it will not become ready by itself: ERROR, or a failed installation. An
        ``installation_failure`` alone is a retry in progress, not the end; STOPPED, DELETING and TERMINATED
        are what somebody wanted, and no failures.
        """
        if self.status in _STOPPED_OR_ENDING:
            return False
        return self.status == PodState.ERROR or self.installation_status == InstallationState.ERROR

    @property
    def failure(self) -> str | None:
        """Why it has failed, in one line; ``None`` while it has not."""
        if not self.has_failed:
            return None
        is_error = self.status == PodState.ERROR
        state = f"status {self.status}" if is_error else f"installation {self.installation_status}"
        reason = _one_line(self.installation_failure or "")
        return f"{state}: {reason}" if reason else state

    def endpoint(self, internal_port: int) -> Endpoint | None:
        """Return where a port of the pod is reached from outside, or ``None`` if it is not.

        Args:
            internal_port: Port in the pod, such as 8000.

        Raises:
            TypeError: Not an integer.
            ValueError: No port number.
        """
        if isinstance(internal_port, bool) or not isinstance(internal_port, int):
            msg = f"internal_port must be an integer, got {internal_port!r}"
            raise TypeError(msg)
        if not 1 <= internal_port <= _HIGHEST_PORT:
            msg = f"internal_port must be from 1 to 65535, got {internal_port!r}"
            raise ValueError(msg)
        exact = [m for m in self.prime_port_mapping if m.internal == str(internal_port)]
        wild = [m for m in self.prime_port_mapping if m.internal == "*"]
        found = (self._reach(mapping, internal_port) for mapping in exact + wild)
        return next((endpoint for endpoint in found if endpoint is not None), None)

    @property
    def jupyter_url(self) -> str | None:
        """Where the pod's Jupyter is reached, or ``None``."""
        by_use = [m for m in self.prime_port_mapping if m.used_by == "JUPYTER_NOTEBOOK"]
        by_port = [m for m in self.prime_port_mapping if m.internal == _JUPYTER_PORT]
        for mapping in by_use + by_port:
            endpoint = self._reach(mapping, _port(mapping.internal))
            if endpoint is not None:
                return endpoint.url
        return None

    def _reach(self, mapping: PortMapping, internal_port: int | None) -> Endpoint | None:
        if "://" in mapping.external:
            return _url_endpoint(mapping.external)
        host = next(
            (node.ip or (node.ssh and node.ssh.host) for node in self.nodes if node.ip or node.ssh), None
        )
        port = internal_port if mapping.external == "*" else _port(mapping.external)
        if not host or port is None:
            return None
        shown = f"[{host}]" if ":" in host else host
        return Endpoint(host=host, port=port, url=f"http://{shown}:{port}")


@attrs.frozen(kw_only=True, field_transformer=_in_order)
class Pod(_Machine):
    """A pod, as ``GET /api/v1/pods/`` and ``GET /api/v1/pods/{id}`` describe it.

    Attributes:
        id: What every other call wants.
        price_hr: Price per hour while it runs.
        stopped_price_hr: Price per hour while it is stopped; ``None`` means ``price_hr``.
        provisioning_price_hr: Price per hour while it is provisioned.
        gpu_name: Such as ``H100_80GB``.
        gpu_count: GPUs of the pod: of all its nodes together, as its offer counts them and its price is for.
        socket: Such as ``SXM5`` or ``PCIe``.
    """

    id: str
    gpu_name: str
    gpu_count: int
    price_hr: float
    provider_type: str
    name: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    wallet_id: str | None = None
    cluster_id: str | None = None
    type: str | None = None
    socket: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    terminated_at: datetime | None = None
    stopped_price_hr: float | None = None
    provisioning_price_hr: float | None = None
    base_price_hr: float | None = None
    base_currency: str | None = None
    environment_type: str | None = None
    custom_template_id: str | None = None
    resources: Resources | None = None
    attached_resources: tuple[AttachedResource, ...] = ()
    is_spot: bool | None = None
    auto_restart: bool | None = None
    jupyter_password: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True, field_transformer=_in_order)
class PodStatus(_Machine):
    """A row of ``GET /api/v1/pods/status``.

    Attributes:
        pod_id: The pod's id.
        cost_per_hr: Price per hour (the wire has ``costPerHr`` or ``priceHr``).
    """

    pod_id: str
    provider_type: str | None = None
    cost_per_hr: float | None = None


@attrs.frozen(kw_only=True, field_transformer=_in_order)
class HistoryRecord(Model):
    """Something that was rented: a row of ``GET /api/v1/pods/history``.

    Attributes:
        type: ``Instance``, ``Cluster``, ``Disk``, ``Sandbox``, or a kind added later.
        total_billed_price: What was billed for it; it settles some time after the end.
        terminated_at: When it ended, or ``None`` if the API does not say.
    """

    id: str
    type: str
    gpu_name: str
    gpu_count: int
    price_hr: float
    total_billed_price: float
    provider_type: str
    created_at: datetime
    name: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    provisioned_by: str | None = None
    terminated_at: datetime | None = None
    socket: str | None = None


@attrs.frozen(kw_only=True)
class Page(Generic[T_co]):
    """One page of a listing: a snapshot that can be iterated and measured.

    Attributes:
        total_count: How many there are in all, as the API counts; ``None`` if it does not say.
        offset: How many come before this page.
        limit: How many the page may hold.
        data: The page's items.
    """

    total_count: int | None
    offset: int
    limit: int
    data: tuple[T_co, ...]

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


@attrs.frozen(kw_only=True)
class PodChange:
    """What became of a pod between two looks at it.

    Attributes:
        pod_id: The pod's id.
        before: Its status as last reported here; ``None`` in the first report.
        after: Its status now; ``None`` when it is gone.
    """

    pod_id: str
    before: PodStatus | None
    after: PodStatus | None


def _as_nodes(value: str | tuple[str | None, ...] | None) -> tuple[str | None, ...]:
    return value if isinstance(value, tuple) else (value,)


def _one_line(text: str) -> str:
    """Return text from the server without line ends and control codes."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _port(text: str) -> int | None:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        return None
    return int(text) if 1 <= int(text) <= _HIGHEST_PORT else None


def _url_endpoint(url: str) -> Endpoint | None:
    """Read a URL from the server; only http and https without spaces are passed on."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    if not parts.hostname or not url.isprintable() or " " in url:
        return None
    return Endpoint(host=parts.hostname, port=port, url=url)
