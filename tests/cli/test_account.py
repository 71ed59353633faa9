"""`primepods disks`, `whoami`, `teams`, `wallet`, `ssh-keys`, and what a key may do."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import primepods
from primepods.emulator import Edit, Emulator

from .conftest import Run, name_api

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFdoYXRldmVyIGl0IGlzLCBpdCBpcyAzMi4 me@here\n"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An empty account."""
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        name_api(emulator, monkeypatch)
        yield emulator


def test_disks_from_order_to_end(emulator: Emulator, run: Run) -> None:
    """Ordered at the cheapest offer that fits, listed, renamed, attached by name, and deleted when unused."""
    order = run("disks", "create", "--size", "500", "--provider", "hyperstack", "--name", "data", "--yes")
    disk_id = order.stdout.strip()
    assert (order.exit_code, "Price per hour: $0.06" in order.stderr) == (0, True)
    run("disks", "rename", disk_id[:6], "more")
    [row] = json.loads(run("disks", "--json").stdout)
    assert (row["id"], row["name"], row["size"]) == (disk_id, "more", 500)
    ordered = run("create", "--gpu-type", "*", "--disk", "more", "--yes", "--max-hours", "2h")
    assert ordered.exit_code == 0, ordered
    pod_id = ordered.stdout.strip()
    assert "-x" in emulator.pods[pod_id].name
    assert "Name: primepods-… (with a suffix)" in ordered.stderr
    assert run("disks").stdout.splitlines()[1].split()[-1] == emulator.pods[pod_id].name
    refused = run("disks", "delete", "more", "--yes")
    assert (refused.exit_code, "attached to" in refused.stderr) == (1, True)
    emulator.delete_pod(pod_id)
    deleted = run("disks", "terminate", "more", "--yes")
    assert (deleted.exit_code, deleted.stdout) == (0, f"{disk_id}\n")
    assert run("disks", "list").stderr == "No disks.\n"


def test_an_unreadable_disk_blocks_nothing_that_its_id_and_name_decide(emulator: Emulator, run: Run) -> None:
    """An id is certain; a name may be that of a row whose id cannot be read, which the message names."""
    with primepods.Client() as client:
        for name in ("first", "second"):
            client.disks.create(primepods.DiskSpec(size=100, provider="nebius", name=name))
        first, second = client.disks.list()
    with emulator.faults.add(Edit(put={"data.0.size": "big"}), on="disk_list"):
        assert run("disks", "rename", "second", "new").exit_code == 0
        assert run("disks", "rename", "first", "old").exit_code == 0
        deleted = run("disks", "delete", first.id, "--yes")
        assert (deleted.exit_code, deleted.stdout) == (0, f"{first.id}\n")
    emulator.faults.add(Edit(put={"data.0.id": None}), on="disk_list")
    refused = run("disks", "delete", "new", "--yes")
    assert (refused.exit_code, "data[0].id" in refused.stderr) == (1, True)
    assert run("disks", "delete", second.id, "--yes").stdout == f"{second.id}\n"


def test_a_disk_is_ordered_at_a_price(emulator: Emulator, run: Run) -> None:
    """An unreadable offer hides no other, one without a price is not the cheapest; the name comes first."""
    order = ("disks", "create", "--size", "500", "--yes")
    put: dict[str, object] = {"items.0.spec": 7, "items.1.spec.pricePerUnit": None}
    with emulator.faults.add(Edit(put=put), on="disks"):
        lines = run(*order).stderr.splitlines()
    assert lines[0].startswith("500 GB of disk at crusoecloud")
    assert lines[1].startswith("Name: disk-")
    assert lines[-1] == f"Ordered {lines[1].removeprefix('Name: ')}."
    emulator.faults.add(
        Edit(put={f"items.{index}.spec.pricePerUnit": None for index in range(10)}), on="disks"
    )
    refused = run(*order)
    assert (refused.exit_code, "no offer of 500 GB of disk that fits has a price" in refused.stderr) == (
        1,
        True,
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ("disks", "create", "--size", "7", "--yes"),
            1,
            "no offer of 7 GB of disk fits; sizes in GB: ",
        ),
        (
            ("disks", "create", "--size", "7", "--provider", "none"),
            1,
            "of 7 GB of disk at 'none' fits; ",
        ),
        (("disks", "delete", "same", "--yes"), 2, "'same' matches several"),
        (("disks", "rename", "nothing", "new"), 1, "'nothing' matches no disk: see `primepods disks`"),
        (("create", "--gpu-type", "*", "--disk", "nothing", "--yes"), 1, "matches no disk"),
        (("ssh-keys", "delete", "nothing"), 1, "'nothing' matches no SSH key: see `primepods ssh-keys`"),
        (("disks", "create"), 2, "See `primepods disks create --help`."),
    ],
)
def test_what_is_not_there_is_told(
    emulator: Emulator, run: Run, words: tuple[str, ...], code: int, said: str
) -> None:
    """And nothing is ordered, changed or deleted."""
    with primepods.Client() as client:
        for _ in range(2):
            client.disks.create(primepods.DiskSpec(size=100, provider="nebius", name="same"))
    result = run(*words)
    assert (result.exit_code, said in result.stderr) == (code, True), result
    assert not emulator.pods
    assert not emulator.requests.where(operation={"disk_delete", "disk_update"})


def test_the_account_is_shown(emulator: Emulator, run: Run) -> None:
    """The user, the teams, the balance and what was charged, for people and for programs."""
    emulator.add_pod("train", price_hr=6.0)
    emulator.add_funds(20)
    assert "Emulated User" in run("whoami").stdout
    assert json.loads(run("whoami", "--json").stdout)["scope"]["instances"] == {"read": True, "write": True}
    assert "Emulated Team" in run("teams").stdout
    shown = run("wallet").stdout.splitlines()
    assert shown[0] == "Balance: $20.00"
    words = shown[2].split()
    assert (words[0], words[2], words[-1]) == ("compute", "train", "$0.10")
    assert json.loads(run("wallet", "--json").stdout)["balance"] == pytest.approx(20)
    charges = run("wallet", "-o", "csv")
    assert (charges.stdout.splitlines()[1].split(",")[1], charges.stderr) == ("0.1", "Balance: $20.00\n")


def test_ssh_keys_are_kept(emulator: Emulator, run: Run, tmp_path: Path) -> None:
    """Added from a file, listed, and deleted by their names; a private key is not sent."""
    file = tmp_path / "key.pub"
    file.write_text(PUBLIC_KEY, encoding="utf-8")
    key_id = run("ssh-keys", "add", str(file), "laptop").stdout.strip()
    assert "Missing argument 'NAME'" in run("ssh-keys", "add", str(file)).stderr
    assert key_id in run("ssh-keys").stdout
    assert run("ssh-keys", "delete", "laptop", "--yes").exit_code == 0
    assert run("ssh-keys", "list", "--ids").stdout == ""
    file.write_text("-----BEGIN OPENSSH PRIVATE KEY-----", encoding="utf-8")
    assert run("ssh-keys", "add", str(file), "laptop").exit_code == 2
    assert len(emulator.requests.where(operation="ssh_key_upload")) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("create", "--gpu-type", "H100", "--yes"),
        ("run", "--gpu-type", "H100", "--", "true"),
        ("disks", "create", "--size", "500", "--yes"),
    ],
)
def test_a_key_that_may_not_order_is_told_so(
    emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """With the permission that it needs, and nothing is ordered; `doctor` says it, too."""
    no = {"read": True, "write": False}
    scope = {"instances": no, "disks": no, "availability": no}
    monkeypatch.setenv("PRIME_API_KEY", emulator.add_api_key(scope))
    result = run(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    kind = "Disks" if words[0] == "disks" else "Instances"
    assert f"needs an API key with the permission {kind} (Read and Write); see https://" in result.stderr
    assert "No pod is left" in result.stderr or words[0] != "run"
    assert not emulator.pods
    assert "may not" in run("doctor").stdout


def test_an_empty_wallet_and_a_silent_api_are_no_obstacle(emulator: Emulator, run: Run) -> None:
    """`doctor` warns of the one; an order does not ask `whoami`."""
    emulator.add_funds(0)
    assert "warning  balance: $0.00 left" in run("doctor").stdout
    emulator.faults.add(Edit(put={"data": None}), on="whoami")
    emulator.add_funds(5)
    assert run("create", "--gpu-type", "H100", "--yes").exit_code == 0
