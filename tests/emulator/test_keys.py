"""SSH keys: uploaded, listed, made primary, deleted."""

from typing import Any

import pytest

from .caller import KEYS, PODS, Answer, Caller, body_for, order, plain_offer

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk me@host"


def upload(call: Caller, name: str, public_key: str = PUBLIC) -> Answer:
    """Upload a key."""
    return call("POST", KEYS, body={"name": name, "publicKey": public_key})


def update(call: Caller, key_id: str, body: Any) -> Answer:
    """Change a key."""
    return call("PATCH", KEYS + key_id, body=body)


def test_keys_live(call: Caller) -> None:
    """The first is primary until another is made that; what is deleted is gone."""
    assert call.get(KEYS) == {"total_count": 0, "offset": 0, "limit": 100, "data": [], "status": None}
    first, second = upload(call, "first").json, upload(call, "second").json
    assert (first["isPrimary"], second["isPrimary"]) == (True, False)
    call.emulator.advance(60)
    answer = update(call, second["id"], {"isPrimary": True})
    assert (answer.status, answer.json["updated_fields"]) == (200, {"isPrimary": True})
    rows = call.get(KEYS, ("limit", "5"))["data"]
    assert [(row["name"], row["isPrimary"]) for row in rows] == [("first", False), ("second", True)]
    assert all(row["updatedAt"] > row["createdAt"] for row in rows)
    assert call("DELETE", KEYS + first["id"]).status == 200
    assert call("DELETE", KEYS + first["id"]).status == 404
    assert [row["name"] for row in call.get(KEYS)["data"]] == ["second"]


def test_a_key_can_be_used_in_an_order(call: Caller) -> None:
    """By its id."""
    key_id = upload(call, "mine").json["id"]
    assert order(call, body_for(plain_offer(call), sshKeyId=key_id)).status == 200
    assert call.get(PODS)["total_count"] == 11


@pytest.mark.parametrize("public_key", ["", "hello", "ssh-rsa", "ssh-rsa !!!", "-----BEGIN PRIVATE KEY-----"])
def test_what_is_no_public_key_is_refused(call: Caller, public_key: str) -> None:
    """Above all a private one."""
    assert upload(call, "bad", public_key).status == 400


def test_wrong_updates_are_refused(call: Caller) -> None:
    """A key cannot be made less than it is; nothing to change is fine."""
    key_id = upload(call, "mine").json["id"]
    assert update(call, key_id, {"isPrimary": False}).status == 400
    assert update(call, key_id, {"isPrimary": "yes"}).status == 422
    assert update(call, key_id, []).status == 422
    assert update(call, key_id, {}).json["updated_fields"] == {}
    assert update(call, "unknown", {"isPrimary": True}).status == 404
