"""Login to a pod, with retries: a ready pod often refuses logins at first."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import anyio
import attrs

from .._utils.text import clip, one_line
from ..errors import ConfigError, LoginError
from ..ssh import SSHTarget
from ._host_keys import ensure_known_hosts, host_alias
from ._scripts import bootstrap
from ._session import Session
from .ssh_options import SSHOptions, is_emulated, run_ssh

_RETRY_INTERVAL: Final = 2.0
_REFUSED_INTERVAL: Final = 6.0
"""Seconds to wait after a refused login: OpenSSH's server may lock out a client that fails more often."""
_MAX_LOGINS: Final = 4
"""Max concurrent logins to a node: OpenSSH's server by default refuses some when ten are in progress."""
_WARNING_INTERVAL: Final = 60.0
_MAX_MESSAGE_LENGTH: Final = 1_000
_HOST_KEY_CHANGED: Final = "IDENTIFICATION HAS CHANGED"
_LOCAL_FAULT: Final = re.compile(
    r"Bad configuration option|unknown option|percent_expand|Bad owner or permissions|^usage: ssh"
    r"|Host key verification failed"
)
"""Messages of ``ssh`` about its own options and files."""
_OFFERED: Final = re.compile(r"Offering public key: (.*)")

_log = logging.getLogger("primepods.remote")


@attrs.define(kw_only=True, eq=False)
class Login:
    """Login to one node of a pod.

    Attributes:
        label: The pod's id for messages, with the node's number if the pod has several.
        machine: The node's name for its host key; see :func:`machine_name`.
        ip: The node's address in the API's response.
    """

    pod_id: str
    target: SSHTarget
    options: SSHOptions
    label: str
    machine: str
    ip: str | None
    _slots: anyio.Semaphore = attrs.field(factory=partial(anyio.Semaphore, _MAX_LOGINS))

    @property
    def address(self) -> str:
        """The address for other nodes, from the API or else the login; loopback for an emulated node."""
        address = self.ip or self.target.host
        return "127.0.0.1" if is_emulated(address) else address

    @asynccontextmanager
    async def session(
        self, *, has_raw_stdout: bool = False, timeout: float | None = None, first: Sequence[str] = ()
    ) -> AsyncGenerator[Session]:
        """Log in, with retries, and yield a session that waits for its script.

        Args:
            timeout: Seconds to retry the login; by default ``login_timeout``.
            has_raw_stdout: Whether a thread reads the standard output from ``session.raw_stdout``, unparsed.
            first: Options of ``ssh`` that override ``ssh_options``.

        Raises:
            LoginError: The login did not succeed in time, or cannot succeed.
            ConfigError: ``ssh`` cannot be started or rejects its options, host keys cannot be stored, or the
                pod is emulated.
        """
        if self.options.ssh_command == ("ssh",) and is_emulated(self.target.host):
            raise ConfigError(
                f"Cannot log in to pod {self.label}: its address {self.target.host} is that of an emulated "
                "pod, with no machine behind it. Set PRIMEPODS_SSH_COMMAND='python -m "
                "primepods.emulator.local_ssh', as `primepods emulator` prints it."
            )
        timeout = self.options.login_timeout if timeout is None else timeout
        session: Session | None = None
        said = ""
        """Messages of the last attempt, or of the last one that refused the keys."""
        offered: list[str] | None = None
        started_at = anyio.current_time()
        next_warning = started_at
        with anyio.move_on_after(timeout):
            while True:
                async with self._slots:
                    session, message = await self._attempt(has_raw_stdout=has_raw_stdout, first=first)
                if session is not None:
                    break
                await self._raise_if_permanent(message, is_first=not said)
                # After a refusal, the server may reset connections for a while: keep the refusal.
                if not _is_refusal(said) or _is_refusal(message):
                    said = message
                if anyio.current_time() >= next_warning:
                    next_warning = anyio.current_time() + _WARNING_INTERVAL
                    seconds = anyio.current_time() - started_at
                    _log.warning(
                        "Cannot log in to pod %s yet (%.0f s, %.0f s at most): %s",
                        self.label,
                        seconds,
                        timeout,
                        said,
                    )
                if offered is None and _is_refusal(said):
                    # Find out the keys now: later, the server may not respond any more.
                    offered = await self._find_offered_keys()
                await anyio.sleep(_REFUSED_INTERVAL if _is_refusal(said) else _RETRY_INTERVAL)
        if session is None:
            raise self._timeout_error(timeout, said or "ssh said nothing", offered or [])
        try:
            yield session
        finally:
            await session.aclose()

    async def _attempt(self, *, has_raw_stdout: bool, first: Sequence[str]) -> tuple[Session | None, str]:
        """Return a ready session, or the messages of ``ssh``."""
        make_argv = partial(self.options.argv, self.machine, self.target, first=first)
        try:
            session = await Session.start(make_argv, has_raw_stdout=has_raw_stdout)
        except OSError as exc:
            raise self.options.start_error(exc) from None
        async with AsyncExitStack() as stack:
            stack.push_async_callback(session.aclose)
            if await session.wait_ready():
                stack.pop_all()
                return session, ""
        # On one line, without the rows of `@` that frame the warnings of `ssh`.
        said = one_line(session.stderr.login_output.replace("@@@@@@@@@@", ""))
        return None, clip(said, _MAX_MESSAGE_LENGTH) or "ssh said nothing"

    async def _raise_if_permanent(self, said: str, *, is_first: bool) -> None:
        """Raise an error if another attempt cannot succeed."""
        if _HOST_KEY_CHANGED in said:
            file = ensure_known_hosts()
            alias = host_alias(self.machine)
            raise LoginError(
                f"Pod {self.label} at {self.target.host} has another host key than at the first login: it "
                f"was reinstalled, or the connection is intercepted. Nothing was sent. ssh said: {said} If "
                f"you know why, remove the old key: ssh-keygen -R {alias} -f {shlex.quote(file)}",
                pod_id=self.pod_id,
                said=said,
            )
        if _LOCAL_FAULT.search(said):
            raise ConfigError(
                f"Could not log in to pod {self.label}: ssh rejects its options or its configuration here. "
                f"Change ssh_options or ~/.ssh/config. ssh said: {said}"
            )
        if is_first:
            await self.options.check(self.machine, self.target)

    def _timeout_error(self, timeout: float, said: str, offered: list[str]) -> LoginError:
        failure = f"Could not log in to pod {self.label} with `{self.target}` within {timeout:g} s: {said}"
        if _is_refusal(said):
            keys = f"ssh tried these keys: {'; '.join(offered)}." if offered else "ssh tried no key."
            failure = (
                f"{failure} {keys} ssh needs the private key (ssh_options=['-i', FILE], or ssh-agent) of the "
                "account's primary key, or of the key that the order named as ssh_key_id."
            )
        return LoginError(failure, pod_id=self.pod_id, said=said)

    async def _find_offered_keys(self) -> list[str]:
        """Return the keys that ``ssh`` offers in another attempt; an empty list if it takes 20 s."""
        # The standard input is empty, so the shell on the pod ends at once.
        argv = self.options.argv(
            self.machine, self.target, bootstrap(mark="unused"), first=("-o", "LogLevel=DEBUG1")
        )
        _, messages = await run_ssh(argv)
        return [one_line(key) for key in _OFFERED.findall(messages)]


def _is_refusal(said: str) -> bool:
    """Return whether ``ssh`` said "Permission denied"."""
    return LoginError("", pod_id="", said=said).is_key_refused
