"""``client.ssh_keys``, blocking: delegates to the asynchronous one."""

from __future__ import annotations

from .._blocking import Portal
from ..keys import SSHKey
from ..resources.ssh_keys import AsyncSSHKeys
from ._iterators import Pager


class SSHKeys:
    """``client.ssh_keys``: the account's public SSH keys. They cost nothing.

    Every method raises the same errors as its counterpart in :class:`~primepods.AsyncSSHKeys`.
    """

    def __init__(self, portal: Portal, ssh_keys: AsyncSSHKeys) -> None:
        self._portal = portal
        self._async = ssh_keys

    def list(self, *, page_size: int = 100) -> Pager[SSHKey]:
        """Iterate all keys, each exactly once: ``GET /api/v1/ssh_keys/``.

        Args:
            page_size: Keys per request, from 1 to 1,000.
        """
        return Pager(self._portal, self._async.list(page_size=page_size))

    def add(self, name: str, public_key: str) -> SSHKey:
        """Add a public key: ``POST /api/v1/ssh_keys/``. A key that exists already is returned.

        Args:
            name: Name of the key.
            public_key: One line as in ``id_ed25519.pub``. Keys are equal if they differ only in the comment.

        Raises:
            ValueError: Not a public key; a private one is never sent.
        """
        return self._portal.call(self._async.add, name, public_key)

    def delete(self, key_id: str) -> None:
        """Delete a key: ``DELETE /api/v1/ssh_keys/{id}``.

        Args:
            key_id: The key's id.

        Raises:
            NotFoundError: No such key.
        """
        self._portal.call(self._async.delete, key_id)

    def set_primary(self, key_id: str) -> None:
        """Make a key the account's primary one: ``PATCH /api/v1/ssh_keys/{id}``.

        Args:
            key_id: The key's id.

        Raises:
            NotFoundError: No such key.
        """
        self._portal.call(self._async.set_primary, key_id)
