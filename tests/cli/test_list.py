"""`primepods list` and `get`: filters, order, forms of output, and what happens where there is an error."""

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from primepods.cli.app import app
from primepods.emulator import Emulator, Status


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An API with three pods, and the variables that name it."""
    with Emulator(boot_seconds=0) as emulator:
        for number in range(3):
            emulator.add_pod(id=f"pod{number}", name=f"train-{number}")
        monkeypatch.setenv("PRIME_API_KEY", emulator.api_key)
        monkeypatch.setenv("PRIME_API_BASE_URL", emulator.url)
        yield emulator


def run(*arguments: str, stdin: str = "") -> Result:
    """The command in a pipe."""
    return CliRunner().invoke(app, arguments, input=stdin)


def test_json_is_what_to_dict_says(emulator: Emulator) -> None:
    """An array of the fields' names; `get` of one id gives the object itself."""
    result = run("list", "-o", "json")
    assert result.exit_code == 0, result.stderr
    pods = json.loads(result.stdout)
    assert [pod["id"] for pod in pods] == ["pod0", "pod1", "pod2"]
    assert pods[0]["is_ready"] is True
    assert json.loads(run("get", "pod0", "-o", "json").stdout)["id"] == "pod0"
    assert next(json.loads(line)["id"] for line in run("list", "-o", "jsonl").stdout.splitlines()) == "pod0"


def test_ids_from_stdin(emulator: Emulator) -> None:
    """What `list --ids` prints, `get -` reads; what is not there is told and ends with 1."""
    ids = run("list", "--ids", "--name", "train-[12]").stdout
    assert ids.split() == ["pod1", "pod2"]
    result = run("get", "-", "nope", "-o", "json", stdin=ids)
    assert (result.exit_code, [pod["id"] for pod in json.loads(result.stdout)]) == (1, ["pod1", "pod2"])
    assert result.stderr.startswith("root get: nope: ")


def test_errors_are_a_line(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is an error ends with 1, a missing key or a wrong option with 2."""
    emulator.faults.add(Status(403), on="list")
    result = run("list")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    for arguments in (["list", "--nope"], ["list", "--older-than", "soon"], ["nope"], ["get"]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    monkeypatch.delenv("PRIME_API_KEY")
    assert run("list").exit_code == 2
