"""The account's public SSH keys, for logging in to pods.

API reference: https://docs.primeintellect.ai/api-reference/ssh-keys
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from .._decoding.rows import decode_object
from .._http.executor import RequestExecutor
from .._http.request import SSH_KEYS, Request, encode_id
from .._operations import as_operation
from .._utils.arguments import check_id, check_text
from .._utils.strict_json import dumps
from ..errors import APIError, NotFoundError, PrimePodsError
from ..models.keys import SSHKey
from ..pagination import AsyncPager
from ._paging import PAGE_SIZE, ignore_body, list_pager

_KEY_ROUTE: Final = f"{SSH_KEYS}{{id}}"
_PUBLIC_KEY: Final = re.compile(r"[a-z][a-z0-9@.-]+ [A-Za-z0-9+/]{16,}={0,3}( .*)?")


class AsyncSSHKeys:
    """``client.ssh_keys``: the account's public SSH keys. They cost nothing.

    Any request may also raise the errors that :class:`~primepods.AsyncPods` lists.
    """

    def __init__(self, executor: RequestExecutor) -> None:
        self._executor = executor

    def list(self, *, page_size: int = PAGE_SIZE) -> AsyncPager[SSHKey]:
        """Iterate over all keys, each exactly once: ``GET /api/v1/ssh_keys/``.

        Args:
            page_size: Keys per request, from 1 to 1,000.
        """
        return list_pager(self._executor, SSH_KEYS, SSHKey, page_size, name="ssh_keys.list")

    @as_operation("ssh_keys.add")
    async def add(self, name: str, public_key: str) -> SSHKey:
        """Add a public key: ``POST /api/v1/ssh_keys/``. If the account has the key already, return it.

        The call can therefore be repeated after an interruption. The key may be added twice by two concurrent
        calls, or if its row in the list cannot be read.

        Args:
            name: Name of the key.
            public_key: The line of a file such as ``id_ed25519.pub``. A key of the account that differs only
                in its comment counts as the same.

        Raises:
            ValueError: ``public_key`` is not a public key, or ``name`` is invalid. A private key is not sent.
        """
        check_text("name", name)
        public_key = _check_public_key(public_key)
        found = await self._find(public_key)
        if found is not None:
            return found
        body = dumps({"name": name, "publicKey": public_key})
        request = Request(method="POST", path=SSH_KEYS, body=body)
        try:
            return await self._executor.call(request, partial(decode_object, model=SSHKey))
        except PrimePodsError as exc:
            error = exc.with_traceback(None)
        if not isinstance(error, APIError) or error.transient:
            # The key may have been added despite the error.
            try:
                found = await self._find(public_key)
            except PrimePodsError as exc:
                error.add_note(f"The key may have been added; the keys cannot be listed: {exc}")
            if found is not None:
                return found
        raise error

    @as_operation("ssh_keys.delete")
    async def delete(self, key_id: str) -> None:
        """Delete a key: ``DELETE /api/v1/ssh_keys/{id}``.

        Args:
            key_id: The key's id.

        Raises:
            NotFoundError: No such key.
        """
        request = Request(method="DELETE", path=_key_path(key_id), route=_KEY_ROUTE)
        try:
            await self._executor.call(request, ignore_body)
        except NotFoundError as exc:
            # An attempt without a response may have deleted the key; the next attempt gets a 404.
            if not exc.maybe_acted:
                raise

    @as_operation("ssh_keys.set_primary")
    async def set_primary(self, key_id: str) -> None:
        """Make a key the account's primary one: ``PATCH /api/v1/ssh_keys/{id}``.

        Args:
            key_id: The key's id.

        Raises:
            NotFoundError: No such key.
        """
        body = dumps({"isPrimary": True})
        request = Request(method="PATCH", path=_key_path(key_id), body=body, route=_KEY_ROUTE)
        await self._executor.call(request, ignore_body)

    async def _find(self, public_key: str) -> SSHKey | None:
        """Return the account's key with the same type and data, or ``None``."""
        words = public_key.split()[:2]
        found, _ = await self.list().find(lambda key: key.public_key.split()[:2] == words)
        return found[0] if found else None


def _key_path(key_id: str) -> str:
    return SSH_KEYS + encode_id(check_id(key_id, name="key_id", listed_by="ssh_keys.list()"))


def _check_public_key(public_key: str) -> str:
    if not isinstance(public_key, str):
        raise TypeError(f"public_key must be a string, got {type(public_key).__name__}")
    text = public_key.strip()
    # Do not quote the text: it may be a private key.
    remedy = "Pass the one line of a file such as ~/.ssh/id_ed25519.pub."
    if "PRIVATE KEY" in text:
        raise ValueError(f"public_key holds a private key, which must never be sent. {remedy}")
    if not _PUBLIC_KEY.fullmatch(text) or not text.isprintable():
        raise ValueError(
            f"public_key must be a key in OpenSSH's format, such as 'ssh-ed25519 AAAA…'. {remedy}"
        )
    return text
