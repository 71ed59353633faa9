"""Endpoints for ssh keys."""

from __future__ import annotations

from .._state.account import Account
from .._state.ssh_keys import PUBLIC_KEY, SSHKey
from ..clock import timestamp
from .http import Request, Response, encode, ok, refuse
from .router import Route
from .shapes import USER_ID, page_of
from .validation import boolean, json_body, nullable, object_of, string

_UPLOAD = object_of({"name": string, "publicKey": string})
_UPDATE = object_of({}, optional={"isPrimary": nullable(boolean)})


class SSHKeysApi:
    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        return [
            Route("ssh_keys", "GET", "/ssh_keys/", self._list),
            Route("ssh_key_upload", "POST", "/ssh_keys/", self._upload),
            Route("ssh_key_delete", "DELETE", "/ssh_keys/{key_id}", self._delete),
            Route("ssh_key_update", "PATCH", "/ssh_keys/{key_id}", self._update),
        ]

    def _list(self, request: Request) -> Response:
        keys = list(self._account.keys.by_id.values())
        return page_of(request, keys, lambda key: encode(self._row(key)), self._account.config.max_page_size)

    def _upload(self, request: Request) -> Response:
        given = json_body(request, _UPLOAD)
        if not PUBLIC_KEY.fullmatch(given["publicKey"]):
            raise refuse(400, "publicKey is not a public key in OpenSSH's format")
        now = self._account.clock.now()
        return ok(self._row(self._account.keys.add(given["name"], given["publicKey"].strip(), now)))

    def _delete(self, _call: Request, key_id: str) -> Response:
        del self._account.keys.by_id[self._find(key_id).id]
        return ok({"message": "SSH key deleted"})

    def _update(self, request: Request, key_id: str) -> Response:
        primary = json_body(request, _UPDATE).get("isPrimary")
        key = self._find(key_id)
        if primary is False:
            raise refuse(400, "isPrimary must be true: make another key primary instead")
        if primary is None:
            return ok({"message": "Nothing to update", "updated_fields": {}})
        self._account.keys.make_primary(key, self._account.clock.now())
        return ok({"message": "SSH key updated", "updated_fields": {"isPrimary": True}})

    def _find(self, key_id: str) -> SSHKey:
        key = self._account.keys.by_id.get(key_id)
        if key is None:
            raise refuse(404, "SSH key not found")
        return key

    def _row(self, key: SSHKey) -> dict[str, object]:
        epoch = self._account.clock.epoch
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
