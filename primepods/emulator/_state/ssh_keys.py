"""The account's ssh keys."""

from __future__ import annotations

import re
from random import Random

import attrs

PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}( [^\r\n\0]*)?\s*")


@attrs.define(kw_only=True)
class SSHKey:
    """An uploaded key. Times are seconds on the emulator's clock."""

    id: str
    name: str
    public_key: str
    primary: bool
    created: float
    updated: float


@attrs.define(kw_only=True, eq=False)
class KeyRing:
    """All keys, oldest first; at most one of them is primary."""

    rng: Random
    """Source of the ids of new keys."""
    by_id: dict[str, SSHKey] = attrs.field(factory=dict[str, SSHKey])

    def add(self, name: str, public_key: str, now: float) -> SSHKey:
        """Add a key, which is primary if it is the only one."""
        key_id = self._draw_id()
        # After a restore, the generator may draw ids of restored keys.
        while key_id in self.by_id:
            key_id = self._draw_id()
        key = SSHKey(
            id=key_id, name=name, public_key=public_key, primary=not self.by_id, created=now, updated=now
        )
        self.by_id[key_id] = key
        return key

    def make_primary(self, key: SSHKey, now: float) -> None:
        for other in self.by_id.values():
            is_primary = other is key
            if other.primary != is_primary:
                other.primary = is_primary
                other.updated = now

    def _draw_id(self) -> str:
        return f"{self.rng.getrandbits(128):032x}"
