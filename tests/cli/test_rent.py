"""`offers`, `create` and `delete`: what costs money is shown first and agreed to; what was said is done."""

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

import primepods
from primepods.cli._shared.errors import CommandError
from primepods.cli._shared.login_options import read_variables
from primepods.emulator import Delay, Edit, Emulator, LostDeletion, Status
from tests.cli.conftest import Run, in_terminal


def test_offers(emulator: Emulator, run: Run) -> None:
    """The cheapest first, with the id that `create` takes; sold out ones only on demand."""
    offers = json.loads(run("offers", "--gpu-type", "H100", "-o", "json").stdout)
    prices = [offer["price_hr"] for offer in offers]
    assert prices == sorted(prices)
    assert {offer["gpu_type"] for offer in offers} == {"H100_80GB"}
    assert max(offer["gpu_count"] for offer in offers) > 8, "clusters are offers, too"
    assert "16 x H100_80GB, Infiniband" in run("offers", "--gpu-count", "16").stdout
    assert {len(offer["id"]) for offer in offers} == {8}
    spot = json.loads(run("offers", "--gpu-type", "H100_80GB", "--spot", "-o", "json").stdout)
    assert not any(offer["is_spot"] for offer in offers)
    assert any(offer["is_spot"] for offer in spot)
    american = run("offers", "--region", "United States", "--columns", "region", "-o", "csv")
    assert set(american.stdout.split()) == {"region", "united_states"}
    few = json.loads(run("offers", "--gpu-type", "h100 80gb", "--limit", "2", "-o", "json").stdout)
    assert few == offers[:2]
    others = ["offers", "--gpu-type", "H100", "--exclude-provider", offers[0]["provider"], "-o", "json"]
    assert offers[0]["provider"] not in {offer["provider"] for offer in json.loads(run(*others).stdout)}
    result = run("offers", "--gpu-type", "H1OO")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "lists no GPU 'H1OO'. Did you mean H100_80GB" in result.stderr
    for offer in offers:
        emulator.set_stock(offer["cloud_id"], 0)
    result = run("offers", "--gpu-type", "H100", "-o", "json")
    assert (result.stdout, result.stderr) == ("[]\n", "No offers match now.\n")
    assert len(json.loads(run("offers", "--gpu-type", "H100", "--all", "-o", "json").stdout)) == len(offers)


def test_create_prints_the_id_alone(emulator: Emulator, run: Run) -> None:
    """The price goes to stderr; the cheapest is taken, and no spot machine unless that is wanted."""
    offers = json.loads(run("offers", "--gpu-type", "H100", "--gpu-count", "1", "-o", "json").stdout)
    result = run("create", "--gpu-type", "H100", "--name", "mine", "--yes")
    assert result.exit_code == 0, result.stderr
    pod = json.loads(run("get", result.stdout.strip(), "-o", "json").stdout)
    assert (pod["name"], pod["price_hr"]) == ("mine", offers[0]["price_hr"])
    assert f"Price per hour: ${offers[0]['price_hr']:.2f}\n" in result.stderr
    assert "exist already" not in result.stderr
    result = run("create", offers[3]["id"], "--yes", "-o", "json", "--name", "mine")
    assert json.loads(result.stdout)["price_hr"] == offers[3]["price_hr"]
    assert f"Pods with the name 'mine' exist already: {pod['id']}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ([], 2, "nothing to order"),
        (["00000000"], 1, "no offer 00000000 can be rented now"),
        (["00000000", "--spot"], 2, "leave out the filters"),
        (["--gpu-type", "H100", "--regions", "moon"], 1, "Input should be one of africa, "),
        (["--gpu-type", "H100", "--max-price", "0.01"], 1, "above that price"),
        (["--gpu-type", "H1OO"], 2, "lists no GPU 'H1OO'. Did you mean H100_80GB"),
        (["--gpu-type", "H100"], 2, "pass --yes"),
        (["--gpu-type", "H100", "--env", "SECRET-VALUE", "--yes"], 2, "NAME=VALUE"),
        (["--gpu-type", "H100", "--max-hours", "0"], 2, "--max-hours must be above 0"),
        (["--gpu-type", "H100", "--ssh-key", "nobody's", "--yes"], 1, "matches no SSH key"),
    ],
)
def test_create_refuses(emulator: Emulator, run: Run, arguments: list[str], code: int, reason: str) -> None:
    """What is not agreed to, or makes no sense, orders nothing."""
    result = run("create", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert reason in result.stderr
    assert "SECRET-VALUE" not in result.stderr
    assert not emulator.requests.where(method="POST")


def test_amounts_that_the_offer_lacks(emulator: Emulator, run: Run) -> None:
    """They are refused with what it has; what they cost counts for --max-price."""
    offers = json.loads(run("offers", "--gpu-type", "*", "-o", "json").stdout)
    offer = next(offer for offer in offers if offer["disk"]["max_count"] and offer["disk"]["price_per_unit"])
    most = offer["disk"]["max_count"]
    order = ["create", offer["id"], "--yes"]
    result = run(*order, "--disk-size", str(most + 1))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"to {most} in steps of" in result.stderr
    result = run(*order, "--disk-size", str(most), "--max-price", str(offer["price_hr"]))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "more than --max-price" in result.stderr
    assert not emulator.requests.where(method="POST")


def test_create_asks(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal it waits for a yes; anything else orders nothing and ends with 1."""
    code, shown = in_terminal(monkeypatch, "create", "--gpu-type", "H100", typed="\n")
    assert (code, len(emulator.pods)) == (1, 3)
    assert "Order it? [y/N]" in shown
    code, shown = in_terminal(monkeypatch, "create", "--gpu-type", "H100", typed="y\n")
    assert (code, len(emulator.pods)) == (0, 4)
    pod_id = shown.split()[-1]
    assert pod_id in emulator.pods
    assert shown.count(pod_id) == 1, "the id is printed once"


def test_variables(tmp_path: Path) -> None:
    """Those of the command line replace those of the file; a value is taken as it stands."""
    file = tmp_path / "secrets.env"
    file.write_text("# mine\nTOKEN=a=b \nexport X=1\n\n", encoding="utf-8")
    with file.open(encoding="utf-8") as lines:
        assert read_variables(["X=2", "E="], lines) == {"TOKEN": "a=b ", "X": "2", "E": ""}
    for wrong in ("", "1X=2", "=2", "A B=1"):
        with pytest.raises(CommandError, match="NAME=VALUE"):
            read_variables([wrong], None)


def test_ssh_keys_by_name(emulator: Emulator, run: Run) -> None:
    """A key is meant by its id or its name, if only one has that."""
    with primepods.Client() as client:
        key = client.ssh_keys.add("laptop", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4s me@here")
    for word in (key.id, "laptop"):
        assert run("create", "--gpu-type", "H100", "--yes", "--ssh-key", word).exit_code == 0


def test_delete_by_id(emulator: Emulator, run: Run) -> None:
    """With --yes whole ids cost no listing; one failure stops no other, and is told."""
    ids = [emulator.add_pod(id=letter * 32) for letter in "abc"]
    emulator.faults.add(Status(403), on="delete", pod_id=ids[2])
    result = run("delete", ids[0], "d" * 32, *ids[1:], "--yes")
    assert (result.exit_code, result.stdout) == (1, f"{ids[0]}\n{ids[1]}\n")
    told = result.stderr.splitlines()
    # A pod that is not there costs nothing.
    assert told[0] == "2 pods deleted, 1 failed and may still be billed."
    assert told[1].startswith(f"primepods delete: {'d' * 32}: ")
    assert told[2].startswith(f"primepods delete: {ids[2]}: ")
    assert emulator.requests[0].method == "DELETE"
    assert run("delete", "nope", "--yes", "--missing-ok").exit_code == 0


def test_delete_by_filter(emulator: Emulator, run: Run) -> None:
    """Those that match are shown with what they cost, and go; the others stay."""
    emulator.add_pod(id="kept", name="other", team_id="t1")
    result = run("delete", "--name", "train-0", "--name", "train-1", "--yes")
    assert (result.exit_code, sorted(result.stdout.split())) == (0, ["pod0", "pod1"])
    assert re.search(r"2 pods +2 GPUs +\$5\.00", result.stderr)
    assert sorted(emulator.pods) == ["kept", "pod2"]
    assert run("delete", "--all", "--team", "t1", "--yes").stdout == "kept\n"
    result = run("delete", "--status", "running", "--yes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unknown states: running. Known states: PROVISIONING, " in result.stderr


@pytest.mark.parametrize("arguments", [["--name", ""], ["--gpu", "H100", "--gpu", ""], [""], ["--status="]])
def test_a_variable_that_is_not_set_deletes_nothing(
    emulator: Emulator, run: Run, arguments: list[str]
) -> None:
    """An empty filter or id is a mistake, whatever else is said."""
    emulator.add_pod(id="unnamed", pod_fields={"name": None})
    result = run("delete", "--yes", *arguments)
    assert (result.exit_code, result.stdout, len(emulator.pods)) == (2, "", 4)


def test_delete_asks(emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal it waits for a yes; where nobody can be asked it refuses with 2."""
    for arguments in (["pod0"], ["--all"]):
        result = run("delete", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "pass --yes" in result.stderr
    for typed in ("n\n", "\n", "\x04"):
        code, shown = in_terminal(monkeypatch, "delete", "pod0", typed=typed)
        assert (code, len(emulator.pods)) == (1, 3)
        assert "Delete 1 pod? [y/N]" in shown
        assert shown.endswith("primepods delete: nothing was done\n")
        # A line that nobody has ended is ended for them; the echo of a bare Enter may come before or after.
        assert typed == "\n" or ("[y/N]: \n" in shown) == (typed == "\x04")
    assert in_terminal(monkeypatch, "terminate", "pod0", typed="y\n")[0] == 0
    assert len(emulator.pods) == 2


def test_ids_that_no_list_shows_are_told(emulator: Emulator, run: Run) -> None:
    """In the order given."""
    ids = [f"unknown{number}" for number in range(8)]
    told = run("delete", "pod0", *ids).stderr.splitlines()
    assert [line.split()[0] for line in told[4:12]] == ids


def test_a_row_that_cannot_be_read_is_told(emulator: Emulator, run: Run) -> None:
    """It may be a pod that stays, and another's failure does not hide that."""
    emulator.faults.add(Edit(put={"data.1.priceHr": "?"}), on="list")
    emulator.faults.add(Status(403), on="delete", pod_id="pod0")
    result = run("delete", "--all", "--yes")
    assert (result.exit_code, result.stdout) == (1, "pod2\n")
    assert "primepods delete: pod0: " in result.stderr
    assert "priceHr" in result.stderr


def test_an_interrupted_deletion_proves_nothing(emulator: Emulator, run: Run) -> None:
    """It says where to look."""
    emulator.faults.add(Delay(30), on="delete")

    def interrupt() -> None:
        while not emulator.requests.where(method="DELETE"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    result = run("delete", "pod0", "pod1", "--yes")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "see `primepods list`" in result.stderr


def test_what_is_still_going_is_told(emulator: Emulator, run: Run) -> None:
    """A deletion that was accepted is not yet the end of the pod."""
    emulator.faults.add(LostDeletion(3600), on="delete", times=1)
    told = run("delete", "pod0", "pod1", "--yes").stderr
    assert told.splitlines()[-1] == "1 deletion accepted, 1 pod deleted."


@pytest.mark.slow
def test_delete_waits_until_gone(emulator: Emulator, run: Run) -> None:
    """With --wait it ends when the pods are confirmed gone; else with 3, and says which are not."""
    assert run("delete", "pod0", "--yes", "--wait", "20s").stderr.splitlines()[-1] == "1 pod confirmed gone."
    result = run("delete", "pod1", "nope", "--yes", "--wait", "0.1s")
    assert (result.exit_code, result.stdout) == (3, "pod1\n")
    *_, failed, waiting = result.stderr.splitlines()
    assert "nope" in failed, "a failure is told, whatever becomes of the others"
    assert "pod1" in waiting


def test_delete_reads_ids(emulator: Emulator, run: Run) -> None:
    """From stdin, as `list --ids` prints them."""
    assert run("delete", "-", "--yes", stdin="pod0\n pod2\n").stdout == "pod0\npod2\n"
    assert run("delete", "-", "--yes", stdin="").exit_code == 0
    assert list(emulator.pods) == ["pod1"]
