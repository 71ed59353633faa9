"""The operations on ssh keys."""

from datetime import datetime
from typing import cast

from .._state.account import World
from .._state.pods import USER_ID
from .._state.ssh_keys import PUBLIC_KEY, KeyRing, SSHKey
from ..clock import timestamp
from .api import PREFIX, paging
from .checks import boolean, checked, fields, json_body, nullable, text
from .http import Call, Refused, Reply, detail, ok
from .routes import Route
from .shapes import encode, page

_UPLOAD = fields({"name": text, "publicKey": text}, {})
_UPDATE = fields({}, {"isPrimary": nullable(boolean)})


class KeysApi:
    """List, upload, delete, make primary."""

    def __init__(self, world: World, ring: KeyRing) -> None:
        self._world = world
        self._ring = ring

    def routes(self) -> list[Route]:
        """What there is to ask."""
        keys = f"{PREFIX}/ssh_keys/"
        return [
            Route.of("ssh_keys", "GET", keys, self._list),
            Route.of("ssh_key_upload", "POST", keys, self._upload),
            Route.of("ssh_key_delete", "DELETE", f"{keys}{{key_id}}", self._delete),
            Route.of("ssh_key_update", "PATCH", f"{keys}{{key_id}}", self._update),
        ]

    def _list(self, call: Call) -> Reply:
        offset, limit = paging(call, self._world.nature.max_page_size)
        keys = list(self._ring.keys.values())
        rows = [encode(_row(key, self._world.clock.epoch)) for key in keys[offset : offset + limit]]
        return Reply(200, page(rows, total=len(keys), offset=offset, limit=limit))

    def _upload(self, call: Call) -> Reply:
        body = json_body(call)
        checked(body, _UPLOAD)
        given = cast("dict[str, str]", body)
        if not PUBLIC_KEY.fullmatch(given["publicKey"]):
            raise Refused(detail(400, "publicKey is no public key in OpenSSH's format"))
        key = self._ring.add(given["name"], given["publicKey"].strip(), self._world.clock.now())
        return ok(_row(key, self._world.clock.epoch))

    def _delete(self, call: Call, key_id: str) -> Reply:
        del call, self._ring.keys[self._known(key_id).id]
        return ok({"message": "SSH key deleted"})

    def _update(self, call: Call, key_id: str) -> Reply:
        body = json_body(call)
        checked(body, _UPDATE)
        primary = cast("dict[str, bool | None]", body).get("isPrimary")
        key = self._known(key_id)
        if primary is False:
            raise Refused(detail(400, "isPrimary must be true: make another key primary instead"))
        if primary is None:
            return ok({"message": "Nothing to update", "updated_fields": {}})
        self._ring.make_primary(key, self._world.clock.now())
        return ok({"message": "SSH key updated", "updated_fields": {"isPrimary": True}})

    def _known(self, key_id: str) -> SSHKey:
        key = self._ring.keys.get(key_id)
        if key is None:
            raise Refused(detail(404, "SSH key not found"))
        return key


def _row(key: SSHKey, epoch: datetime) -> dict[str, object]:
    return {
        "id": key.id,
        "userId": USER_ID,
        "name": key.name,
        "publicKey": key.public_key,
        "isPrimary": key.primary,
        "isUserKey": True,
        "createdAt": timestamp(epoch, key.created),
        "updatedAt": timestamp(epoch, key.updated),
    }
