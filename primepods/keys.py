"""SSH keys, as ``GET /api/v1/ssh_keys/`` describes them."""

from __future__ import annotations

from datetime import datetime

import attrs

from .models import Model


@attrs.frozen(kw_only=True)
class SSHKey(Model):
    """A public SSH key of the account, with which pods can be ordered.

    Attributes:
        id: What ``PodSpec.ssh_key_id`` and the calls of ``client.ssh_keys`` want.
        public_key: One line, such as ``ssh-ed25519 AAAA… me@host``.
        is_primary: Whether it is the account's primary key.
        is_user_key: Whether a user has uploaded it.
    """

    id: str
    name: str
    public_key: str
    is_primary: bool | None = None
    is_user_key: bool | None = None
    user_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
