"""`list`, `get` and `status`: filters, order, forms of output, ids from stdin, and errors."""

import csv
import io
import json
import time

import pytest

from primepods.emulator import Edit, Emulator, Status
from tests.cli.conftest import Run, in_terminal


def test_forms_of_output(emulator: Emulator, run: Run) -> None:
    """JSON is an array, JSON lines an object a line, CSV has a heading; all with the names of `to_dict()`."""
    pods = json.loads(run("list", "-o", "json").stdout)
    assert [pod["id"] for pod in pods] == ["pod0", "pod1", "pod2"]
    assert pods[0]["is_ready"] is True
    assert pods[0]["ssh"]["command"].startswith("ssh -p ")
    assert [json.loads(line) for line in run("list", "-o", "jsonl").stdout.splitlines()] == pods
    rows = list(csv.DictReader(io.StringIO(run("list", "--output", "csv").stdout)))
    assert [row["id"] for row in rows] == ["pod0", "pod1", "pod2"]
    assert rows[0].keys() == pods[0].keys()
    assert (rows[0]["is_ready"], json.loads(rows[0]["ssh"])) == ("true", pods[0]["ssh"])


@pytest.mark.parametrize("command", ["get", "status"])
def test_one_id_is_one_object(emulator: Emulator, run: Run, command: str) -> None:
    """Several, or what comes from stdin, are an array, so that a script knows what it gets."""
    assert json.loads(run(command, "pod0", "-o", "json").stdout)["is_ready"] is True
    assert len(json.loads(run(command, "pod0", "pod1", "-o", "json").stdout)) == 2
    assert len(json.loads(run(command, "-", "-o", "json", stdin="pod0\n").stdout)) == 1


@pytest.mark.parametrize("command", ["get", "status"])
def test_ids_that_are_not_there(emulator: Emulator, run: Run, command: str) -> None:
    """They hide no others: each is told in a line, and the command ends with 1."""
    ids = run("list", "--ids", "--name", "train-1", "--name", "train-2").stdout
    assert ids == "pod1\npod2\n"
    result = run(command, "-", "nope", "-o", "jsonl", stdin=ids)
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 2)
    assert result.stderr.startswith(f"primepods {command}: nope: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_list_of_a_team_has_the_owners(emulator: Emulator, run: Run) -> None:
    """They have the names of the team's members; without these, the ids of the pods' users."""
    for team in ("clemulator0002team", "t1"):
        emulator.add_pod(id=team, team_id=team)
        owner = {"t1": "clemulator0000user"}.get(team, "Emulated User")
        listed = run("list", "--team", team, "--columns", "id,owner").stdout.splitlines()
        assert listed[1].split(maxsplit=1) == [team, owner]
    assert run("list", "--columns", "owner").exit_code == 2


def test_filters_and_order(emulator: Emulator, run: Run) -> None:
    """All filters must hold, and of one that is repeated any."""
    emulator.add_pod(id="big", name="other", gpu_name="L40S_48GB", gpu_count=8, price_hr=9.0, team_id="t1")
    emulator.add_pod(id="boots", name="train-9", boot_seconds=3600, price_hr=1.0)

    def ids(*arguments: str) -> list[str]:
        result = run("list", "--ids", *arguments)
        assert result.exit_code == 0, result.stderr
        return result.stdout.split()

    assert ids("--gpu", "h100", "--gpu", "L40S_48GB") == ["pod0", "pod1", "pod2", "big"]
    assert ids("--gpu", "L40S", "--gpu", "H10*") == ["pod0", "pod1", "pod2", "big"]
    assert ids("--gpu", "B200") == []
    assert ids("--not-ready") == ["boots"]
    assert ids("--ready", "--name", "train-*", "--status", "active") == ["pod0", "pod1", "pod2"]
    assert ids("--team", "t1") == ["big"]
    assert ids("--older-than", "1h") == []
    assert len(ids("--older-than", "0s")) == 5
    assert ids("--sort", "price") == ["boots", "pod0", "pod1", "pod2", "big"]
    assert ids("--sort", "name", "--reverse")[0] == "boots"


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--status", "ACTVE", "Known states: PROVISIONING, "),
        ("--status", "ready", "For pods that are ready, use --ready"),
        ("--gpu", "H10O", "Did you mean H100_80GB"),
    ],
)
@pytest.mark.parametrize("command", ["list", "delete"])
def test_a_mistyped_filter_is_a_mistake(
    emulator: Emulator, run: Run, *, command: str, option: str, value: str, hint: str
) -> None:
    """A state or GPU that the API does not have is a usage error with the words that it has."""
    result = run(command, option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert hint in result.stderr


def test_a_machine_without_gpus_is_no_gpu(emulator: Emulator, run: Run) -> None:
    """CPU nodes are not counted, and no pattern for any GPU finds one."""
    emulator.add_pod(id="plain", name="cpu", gpu_name="CPU_NODE", price_hr=0.1)
    assert "4 pods" in (shown := run("list", "--sort", "price").stdout)
    assert "6 GPUs" in shown, "two in each of the others"
    assert "plain" not in run("list", "--ids", "--gpu", "*").stdout
    assert run("list", "--ids", "--gpu", "CPU*").stdout == "plain\n"


def test_no_pods(run: Run, emulator: Emulator) -> None:
    """Nothing is an empty array, a heading of CSV, or no line at all; people are told."""
    result = run("list", "--name", "x")
    assert (result.stdout, result.stderr) == ("", "No pods match.\n")
    assert run("list", "--name", "x", "-o", "json").stdout == "[]\n"
    whole = run("list", "-o", "csv").stdout
    assert run("list", "--name", "x", "-o", "csv").stdout == whole.splitlines()[0] + "\n"


def test_a_row_that_cannot_be_read_hides_no_other(emulator: Emulator, run: Run) -> None:
    """All others are shown, and then the error."""
    emulator.faults.add(Edit(put={"data.1.priceHr": "?"}), on="list")
    result = run("list", "--ids")
    assert (result.exit_code, result.stdout) == (1, "pod0\npod2\n")
    assert "priceHr" in result.stderr


def test_logs(emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets the log as it is, a terminal nothing that steers it."""
    text = "\x1b[2Jone\ttwo \xe4\nlast"
    emulator.faults.add(Status(200, text=text), on="log", times=2)
    assert run("logs", "pod0").stdout == f"{text}\n"
    shown = in_terminal(monkeypatch, "logs", "pod0")
    assert shown == (0, "\N{REPLACEMENT CHARACTER}[2Jone two \xe4\nlast\n")
    assert "pod active" in run("logs", "pod0", "--tail", "1").stdout


def test_errors_are_a_line(emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is an error ends with 1, what took too long with 3, a missing key or a typo with 2."""
    emulator.faults.add(Status(403), on="list", times=1)
    wrong = (["list", "--nope"], ["list", "--older-than", "soon"], ["nope"], ["get"])
    for code, arguments in ((1, ["list"]), (1, ["get", "a/b"]), *((2, arguments) for arguments in wrong)):
        result = run(*arguments)
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (code, "", 1), arguments
        assert result.stderr.startswith("primepods")
    emulator.faults.add(Status(503), on="list")
    begun = time.monotonic()
    assert run("list", "--timeout", "0.2s").exit_code in {1, 3}
    assert time.monotonic() - begun < 20
    emulator.faults.clear()
    monkeypatch.setenv("PRIME_API_KEY", "wrong")
    assert "The API key (environment variable PRIME_API_KEY) is wrong or expired" in run("list").stderr
    monkeypatch.delenv("PRIME_API_KEY")
    result = run("list")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "PRIME_API_KEY. Without an account, see `primepods demo`." in result.stderr


def test_verbose_shows_requests_and_no_key(emulator: Emulator, run: Run) -> None:
    """The log goes to stderr, the data stays alone on stdout."""
    result = run("list", "--verbose", "--ids")
    assert result.stdout == "pod0\npod1\npod2\n"
    assert "GET /api/v1/pods" in result.stderr
    assert emulator.api_key not in result.output
