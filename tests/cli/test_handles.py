"""What people type for a pod: its id, a prefix of its id, or its name."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from primepods.cli._shared.text import shorten_ids
from primepods.emulator import Edit, Emulator
from tests.cli.conftest import Run, name_api
from tests.cli.test_run import LOCAL_SSH

TRAIN = "3fa2b1c4" * 4
SIBLING = "3fa2b1c5" * 4
OTHER = "9f3d2f7a" * 4


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Three pods: two whose ids begin alike, and one with a blank in its name."""
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        emulator.add_pod("train", id=TRAIN)
        emulator.add_pod("train-2", id=SIBLING)
        emulator.add_pod("my pod", id=OTHER, team_id="team1")
        name_api(emulator, monkeypatch)
        yield emulator


@pytest.mark.parametrize(
    ("handle", "pod_id"),
    [(TRAIN, TRAIN), ("train", TRAIN), ("3fa2b1c4", TRAIN), ("9f3d", OTHER), ("my pod", OTHER)],
)
@pytest.mark.parametrize("command", [["get"], ["status"], ["wait"], ["delete", "--yes"]])
def test_handles(api: Emulator, run: Run, command: list[str], handle: str, pod_id: str) -> None:
    """Every command takes an id, the beginning of one (4 characters or more), or an exact name."""
    deleting = command[0] == "delete"
    result = run(*command, handle, *([] if deleting else ["-o", "json"]))
    assert result.exit_code == 0, result.stderr
    assert pod_id in result.stdout
    assert (pod_id not in api.pods) == deleting
    assert len(api.pods) == 3 - deleting


@pytest.mark.parametrize("command", [["ssh", "--print"], ["ssh-config"], ["logs"]])
def test_other_commands_take_them_too(api: Emulator, run: Run, command: list[str]) -> None:
    """Those that print no id: the same command with the id says the same."""
    by_id, by_name = (run(*command, handle) for handle in (TRAIN, "train"))
    assert (by_id.exit_code, by_name.exit_code) == (0, 0), by_name.stderr
    assert by_id.stdout.replace(TRAIN, "")[-20:] == by_name.stdout.replace(TRAIN, "")[-20:]


@pytest.mark.parametrize("command", ["get", "status", "watch", "wait", "logs", "ssh", "delete"])
@pytest.mark.parametrize("handle", ["3fa2", "9f3d2f7a"])
def test_ambiguous(api: Emulator, run: Run, command: str, handle: str) -> None:
    """Two pods that it can mean, be it by id or by name: exit 2, both are named, nothing is done."""
    api.add_pod("9f3d2f7a", id="0" * 32)
    more = ["--yes", "train"] if command == "delete" else []
    result = run(command, handle, *more)
    assert (result.exit_code, result.stdout, len(api.pods)) == (2, "", 4)
    for pod_id in (TRAIN, SIBLING) if handle == "3fa2" else (OTHER, "0" * 32):
        assert pod_id in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("handle", ["3fa", "trai", "TRAIN", "my", "a b", "train-*", ""])
def test_no_handle(api: Emulator, run: Run, handle: str) -> None:
    """Too short, the beginning of a name, another case, a pattern: nothing is deleted."""
    result = run("delete", "--yes", handle)
    assert (result.exit_code != 0, result.stdout, len(api.pods)) == (True, "", 3)


@pytest.mark.parametrize("command", ["get", "wait"])
@pytest.mark.parametrize(
    ("handle", "hint"),
    [
        ("tran", "did you mean 'train' or 'train-2'? Otherwise, see `primepods list`"),
        ("3fa", "a prefix of an id needs 4 characters or more"),
        ("nobody", "see `primepods list` and `primepods runs`"),
        ("job 17", "see `primepods list` and `primepods runs`"),
        ("train-2*", "`primepods list`, `watch` and `delete` take a pattern as --name"),
    ],
)
def test_a_mistyped_name_fails_at_once(api: Emulator, run: Run, command: str, handle: str, hint: str) -> None:
    """What may be meant is suggested; nothing is waited for, and the list is all that is read."""
    api.requests.clear()
    result = run(command, handle)
    assert (result.exit_code, result.stdout, len(api.requests)) == (1, "", 1)
    assert f"no pod has the name or id {handle!r}: {hint}" in result.stderr


def test_an_id_that_is_not_listed_is_waited_for(api: Emulator, run: Run) -> None:
    """It has digits, and may be a new pod's, which the list does not show yet."""
    result = run("wait", "cm4x7", "--timeout", "2s")
    assert result.exit_code == 3
    assert result.stderr.startswith("cm4x7 is not in the list of your pods; waiting for it to appear.\n")


@pytest.mark.parametrize("command", [["exec"], ["delete", "--yes"]], ids=str)
@pytest.mark.parametrize("handle", ["ru", "run-0y2", "run-0y2ahad5y6", "run-0y2ahad5y6-3n", "run-"])
def test_the_beginning_of_a_runs_name(
    api: Emulator, run: Run, command: list[str], handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands on a pod take it, as `stop` does, unless several runs match; a deletion takes whole names."""
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", LOCAL_SSH)
    pod = api.add_pod("run-0y2ahad5y6-3ngsn95xs1-x0yttt")
    api.add_pod("run-0y3")
    if handle == "run-":
        api.add_pod("run-p6nhv1q2w3-4ngsn95xs1")
    result = run(*command, handle, *(["--", "true"] if command == ["exec"] else []))
    is_whole = handle == "run-0y2ahad5y6"
    is_taken = is_whole or (command == ["exec"] and handle in {"ru", "run-0y2"})
    assert (result.exit_code == 0) == is_taken, result.stderr
    assert (pod in api.pods) == (command == ["exec"] or not is_whole)


def test_a_chosen_name_never_stands_before_an_id(api: Emulator, run: Run) -> None:
    """Somebody names a pod as another pod's id: the id means the pod that has it, without a listing."""
    api.add_pod(TRAIN, id="0" * 32)
    api.requests.clear()
    assert json.loads(run("get", TRAIN, "-o", "json").stdout)["name"] == "train"
    assert len(api.requests) == 1


def test_an_id_that_is_gone_means_no_pod_of_that_name(api: Emulator, run: Run) -> None:
    """Also where the list is read for another handle: somebody's pod that is named as the id stays."""
    api.add_pod("f" * 32, id="0" * 32)
    result = run("delete", "--yes", "f" * 32, "train")
    assert (result.exit_code, result.stdout) == (1, f"{TRAIN}\n")
    assert "0" * 32 in api.pods


def test_a_team(api: Emulator, run: Run) -> None:
    """With --team a name means a pod of that team."""
    api.add_pod("train", id="0" * 32, team_id="team1")
    assert run("status", "train").exit_code == 2
    assert json.loads(run("status", "train", "--team", "team1", "-o", "json").stdout)["pod_id"] == "0" * 32
    assert (
        "no pod of team 'team1' has the name or id 'train-2'"
        in run("get", "train-2", "--team", "team1").stderr
    )


def damage(api: Emulator, name: str, **fields: object) -> None:
    """Change the rows of a name in the list."""

    def edit(body: Any) -> Any:
        for row in body["data"]:
            row.update(fields if row["name"] == name else {})
        return body

    api.faults.add(Edit(edit), on="list")


@pytest.mark.parametrize("handle", ["train", "3fa2b1c4"])
@pytest.mark.parametrize(
    "words", [["get"], ["status"], ["ssh", "--print"], ["exec", "--", "true"], ["delete", "--yes"]], ids=str
)
def test_a_row_that_cannot_be_read(
    api: Emulator, run: Run, words: list[str], handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops no command for another pod, whose name or prefix is found."""
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", LOCAL_SSH)
    damage(api, "train-2", sshConnection=5)
    result = run(words[0], handle, *words[1:])
    assert result.exit_code == 0, result.stderr
    assert (TRAIN in api.pods) == (words[0] != "delete")


def test_a_row_without_an_id(api: Emulator, run: Run) -> None:
    """It may be the namesake: a name is refused, an id is not."""
    api.add_pod("other", id="job-17")
    damage(api, "train-2", id=None)
    result = run("delete", "--yes", "train")
    assert (result.exit_code, len(api.pods)) == (1, 4)
    assert "].id" in result.stderr
    assert run("delete", "--yes", "job-17").exit_code == 0


def test_a_pod_that_cannot_be_read_itself(api: Emulator, run: Run) -> None:
    """It is deleted by its name, unless another pod has it, or its team is asked for."""
    odd = api.add_pod("odd", id="0dd" * 10)
    damage(api, "odd", teamId=[])
    result = run("delete", "--yes", "odd", "--team", "team1")
    assert (result.exit_code, "whose team cannot be read: give the id" in result.stderr) == (2, True)
    twin = api.add_pod("odd", id="1dd" * 10)
    assert run("delete", "--yes", "odd").exit_code == 2
    api.delete_pod(twin)
    result = run("delete", "--yes", "odd")
    assert f"{odd} cannot be read in the list; trying to delete it anyway." in result.stderr
    assert (result.exit_code, odd in api.pods) == (0, False)


def test_ids_are_shown_as_far_as_they_differ() -> None:
    """Eight characters, or as many as it takes, the same for all; the beginning is a handle of its own."""
    assert shorten_ids([TRAIN, OTHER]) == {TRAIN: "3fa2b1c4", OTHER: "9f3d2f7a"}
    close = ["3fa2b1c40", "3fa2b1c41000", "x"]
    assert list(shorten_ids(close).values()) == ["3fa2b1c40", "3fa2b1c41", "x"]
    assert shorten_ids(["pod-000001", "pod-000001-b"])["pod-000001-b"] == "pod-000001-"
    assert shorten_ids([]) == {}


@pytest.mark.parametrize(
    "words",
    [["get"], ["logs"], ["ssh"], ["exec", "--", "true"], ["cp", "here"], ["delete", "--yes"]],
    ids=lambda words: words[0],
)
def test_a_name_that_no_pod_has(emulator: Emulator, run: Run, words: list[str]) -> None:
    """The message says so, and names the commands that list pods, instead of the request that failed."""
    handle = "trian:x" if words[0] == "cp" else "trian"
    result = run(words[0], handle, *words[1:])
    assert result.exit_code == 1
    assert "no pod has the name or id 'trian': did you mean 'train-" in result.stderr
    assert "see `primepods list`" in result.stderr
    assert "404" not in result.stderr
