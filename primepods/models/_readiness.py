"""Readiness, nodes and ports: the base of pods and status rows."""

from __future__ import annotations

import re
from itertools import zip_longest
from urllib.parse import urlsplit

import attrs

from .._utils.arguments import check_count
from .._utils.plain import ToDict
from .._utils.pod_reference import PodReference
from .._utils.text import clip, one_line
from ..ssh import SSHTarget, parse_ssh
from ._base import Model, id_first_extra_last
from ._states import InstallationState, PodState

_JUPYTER_PORT = "8888"
_FULL_PROGRESS = 100
_MAX_TEXT_LENGTH = 100
_MAX_PORT = 65_535
_MAX_NODES = 1_000
_NOT_INSTALLED = frozenset({InstallationState.ERROR, InstallationState.TERMINATED})


@attrs.frozen(kw_only=True, field_transformer=id_first_extra_last)
class PortMapping(Model):
    """One port of a pod that is open to the outside."""

    internal: str
    """Port inside the pod: a number, or ``*`` for any."""
    external: str
    """Outside port: a number, a whole URL, or ``*`` for the same port."""
    protocol: str | None = None
    """``TCP`` or ``UDP``."""
    used_by: str | None = None
    """``SSH``, ``JUPYTER_NOTEBOOK``, ``WEB_SERVER``, or a value that the API adds later."""
    description: str | None = None
    """Description of the port."""


@attrs.frozen(kw_only=True)
class Node(ToDict):
    """One machine of a pod."""

    ip: str | None
    """Address of the node, once assigned."""
    ssh: SSHTarget | None
    """SSH target, once known."""


@attrs.frozen(kw_only=True)
class Endpoint(ToDict):
    """Outside address of a port of a pod."""

    host: str
    """Host name or address."""
    port: int
    """Port number."""
    url: str
    """The URL from the API, else ``http://host:port``."""


@attrs.frozen(kw_only=True, repr=False)
class Machine(Model, PodReference):
    """Common fields and properties of a pod and its status row."""

    _DERIVED = ("is_ready", "failure", "ssh")
    """Properties that :meth:`to_dict` adds."""

    status: PodState | None = None
    """The pod's state."""
    installation_status: InstallationState | None = None
    """State of the image's installation."""
    installation_failure: str | None = None
    """Reason why an attempt at the installation failed; the platform may retry it."""
    installation_progress: int | None = None
    """Progress of the installation in percent."""
    prime_port_mapping: tuple[PortMapping, ...] = ()
    """Ports that are open to the outside."""
    ssh_connection: str | tuple[str | None, ...] | None = None
    """SSH login as the API spells it: one line, or one per node; see :attr:`ssh`."""
    ip: str | tuple[str | None, ...] | None = None
    """Address of the pod, or one per node; see :attr:`nodes`."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The pod's machines in the API's order: one, or up to 1,000 for a multi-node pod."""
        ssh = _as_nodes(self.ssh_connection)
        ips = _as_nodes(self.ip)
        return tuple(Node(ip=ip or None, ssh=parse_ssh(line)) for ip, line in zip_longest(ips, ssh))

    @property
    def ssh(self) -> SSHTarget | None:
        """SSH target of the first node that has one; ``None`` while none has one."""
        return next((node.ssh for node in self.nodes if node.ssh is not None), None)

    @property
    def is_installed(self) -> bool:
        """True if the installation is finished: its state says so, it is at 100 %, or nothing is reported."""
        if self.installation_status in _NOT_INSTALLED:
            return False
        if self.installation_status == InstallationState.FINISHED:
            return True
        if self.installation_progress is not None:
            return self.installation_progress >= _FULL_PROGRESS
        return self.installation_status is None and self.installation_failure is None

    @property
    def has_address(self) -> bool:
        """True if every node has an address."""
        nodes = self.nodes
        return bool(nodes) and all(node.ip or node.ssh for node in nodes)

    @property
    def is_ready(self) -> bool:
        """True if the pod is ACTIVE and installed, and every node has an address."""
        return self.status == PodState.ACTIVE and self.is_installed and self.has_address

    @property
    def has_ended(self) -> bool:
        """True if the pod was stopped or deleted, or is being deleted."""
        return self.status is not None and (self.status == PodState.STOPPED or self.status.is_ending)

    @property
    def has_failed(self) -> bool:
        """True if the pod or its installation is in the state ERROR, and the pod has not ended.

        An ``installation_failure`` alone is not a failure of the pod, because the platform may retry.
        """
        if self.has_ended:
            return False
        return self.status == PodState.ERROR or self.installation_status == InstallationState.ERROR

    @property
    def failure(self) -> str | None:
        """Reason for the pod's failure, in one line; ``None`` if it has not failed."""
        if not self.has_failed:
            return None
        is_error = self.status == PodState.ERROR
        state = f"status {self.status}" if is_error else f"installation {self.installation_status}"
        reason = one_line(self.installation_failure or "")
        return f"{state}: {reason}" if reason else state

    def _line(self, *parts: str | None) -> str:
        """Return one line for people: condition, ``parts`` and the SSH command."""
        state = self.status or "no status"
        progress = self._progress()
        if progress is not None:
            state = f"{state}, {progress}"
        ssh = None if self.ssh is None else str(self.ssh)
        all_parts = [self.failure or state, *parts, ssh]
        return " · ".join(clip(one_line(part), _MAX_TEXT_LENGTH) for part in all_parts if part)

    def _progress(self) -> str | None:
        """Return whether an ACTIVE pod is installing, has no address yet, or is ready; else ``None``."""
        if self.status != PodState.ACTIVE:
            return None
        if not self.is_installed:
            progress = self.installation_progress
            return "installing" if progress is None else f"installing {progress} %"
        return "ready" if self.has_address else "no address yet"

    def endpoint(self, internal_port: int) -> Endpoint | None:
        """Return the outside address of a port of the pod.

        Return ``None`` if no usable address of the port is known.

        Args:
            internal_port: Port inside the pod, such as 8000.

        Raises:
            TypeError: ``internal_port`` is not an integer.
            ValueError: ``internal_port`` is not from 1 to 65535.
        """
        check_count("internal_port", internal_port, minimum=1, maximum=_MAX_PORT)
        exact = [m for m in self.prime_port_mapping if m.internal == str(internal_port)]
        wildcards = [m for m in self.prime_port_mapping if m.internal == "*"]
        found = (self._endpoint_of(mapping, internal_port) for mapping in exact + wildcards)
        return next((endpoint for endpoint in found if endpoint is not None), None)

    @property
    def jupyter_url(self) -> str | None:
        """URL of the pod's Jupyter; ``None`` if no usable address of its port is known."""
        by_use = [m for m in self.prime_port_mapping if m.used_by == "JUPYTER_NOTEBOOK"]
        by_port = [m for m in self.prime_port_mapping if m.internal == _JUPYTER_PORT]
        found = (self._endpoint_of(mapping, _port(mapping.internal)) for mapping in by_use + by_port)
        return next((endpoint.url for endpoint in found if endpoint is not None), None)

    def _endpoint_of(self, mapping: PortMapping, internal_port: int | None) -> Endpoint | None:
        if "://" in mapping.external:
            return _url_endpoint(mapping.external)
        host = next((host for host in map(_host_of, self.nodes) if host), None)
        port = internal_port if mapping.external == "*" else _port(mapping.external)
        if not host or port is None:
            return None
        url_host = f"[{host}]" if ":" in host else host
        return Endpoint(host=host, port=port, url=f"http://{url_host}:{port}")


def _host_of(node: Node) -> str | None:
    if node.ip:
        return node.ip
    return None if node.ssh is None else node.ssh.host


def shown_id(pod_id: str) -> str:
    """Return an id for display in a line."""
    return clip(one_line(pod_id), _MAX_TEXT_LENGTH)


def _as_nodes(value: str | tuple[str | None, ...] | None) -> tuple[str | None, ...]:
    return value[:_MAX_NODES] if isinstance(value, tuple) else (value,)


def _port(text: str) -> int | None:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        return None
    return int(text) if 1 <= int(text) <= _MAX_PORT else None


def _url_endpoint(url: str) -> Endpoint | None:
    """Parse a URL from the server; return ``None`` if it is not a usable http or https URL."""
    try:
        parts = urlsplit(url)
        default_port = {"http": 80, "https": 443}[parts.scheme]
        port = default_port if parts.port is None else parts.port
    except (ValueError, KeyError):
        return None
    if not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        return None
    return Endpoint(host=parts.hostname, port=port, url=url)
