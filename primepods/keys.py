"""SSH keys, as ``GET /api/v1/ssh_keys/`` describes them."""

from __future__ import annotations

from datetime import datetime

import attrs

from .models import Model


@attrs.frozen(kw_only=True)
class SSHKey(Model):
    """A public SSH key of the account, with which pods can be ordered."""

    id: str
    """What ``PodSpec.ssh_key_id`` and the calls of ``client.ssh_keys`` want."""
    name: str
    """The name given to it."""
    public_key: str
    """One line, such as ``ssh-ed25519 AAAA… me@host``."""
    is_primary: bool | None = None
    """Whether it is the account's primary key."""
    is_user_key: bool | None = None
    """Whether a user has uploaded it."""
    user_id: str | None = None
    """The user whose key it is."""
    created_at: datetime | None = None
    """When it was added."""
    updated_at: datetime | None = None
    """When it was last changed."""
