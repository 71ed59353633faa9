"""SSH keys: rows of ``GET /api/v1/ssh_keys/``."""

from __future__ import annotations

from datetime import datetime

import attrs

from . import Model


@attrs.frozen(kw_only=True)
class SSHKey(Model):
    """A public SSH key of the account, for logging in to pods."""

    id: str
    """Id for ``PodSpec.ssh_key_id`` and the calls of ``client.ssh_keys``."""
    name: str
    """Name of the key."""
    public_key: str
    """Public key in one line, such as ``ssh-ed25519 AAAA… me@host``."""
    is_primary: bool | None = None
    """True for the account's primary key."""
    is_user_key: bool | None = None
    """True if a user uploaded it."""
    user_id: str | None = None
    """Owner of the key."""
    created_at: datetime | None = None
    """Time at which it was added."""
    updated_at: datetime | None = None
    """Time of its last change."""
