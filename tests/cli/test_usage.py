"""What is typed wrongly: exit code 2 and a line that says why; nothing is sent, and no pod is deleted."""

import shlex

import pytest

from primepods.emulator import Emulator

from .conftest import Run

WRONG = {
    # A bare number, read as seconds, could match the whole fleet.
    "delete --older-than 5 --yes": "5s, 5m, 5h or 5d",
    "list --older-than 5": "5s, 5m, 5h or 5d",
    "watch --interval 5": "5s, 5m, 5h or 5d",
    "wait pod0 --timeout 5": "5s, 5m, 5h or 5d",
    "sweep --older-than 5 --yes": "5s, 5m, 5h or 5d",
    "list --timeout 5": "5s, 5m, 5h or 5d",
    # No ids and no filters are never all pods, nor is a filter narrowed by an id without a word.
    "delete": "in one way",
    "delete --yes": "in one way",
    "delete pod0 --all": "in one way",
    "delete --all --name x": "in one way",
    "delete --team t": "in one way",
    "wait": "",
    "wait -": "",
    "wait pod0 --until soon": "",
    "wait '' -o json": "",
    "watch -": "",
    "watch pod0 --gpu H100": "",
    "watch -o json": "",
    "watch --interval 0s": "",
    "mcp --allow-rent": "needs --max-hourly and --budget",
    "mcp --allow-rent --budget 5": "needs --max-hourly and --budget",
    "mcp --emulator --context staging": "--emulator cannot be combined",
    "demo --pods 0": "",
    "demo --speed nan": "",
    "demo --failure-rate 2": "",
    "demo --speed x": "",
    "emulator --speed 0": "primepods emulator: ",
    "emulator --speed nan": "primepods emulator: ",
    "emulator --pods -1": "primepods emulator: ",
    "emulator --port 70000": "primepods emulator: ",
    "emulator --api-key 'a b'": "primepods emulator: ",
    # As a shell makes them of a pattern without quotes; with them, another command would be run on a pod.
    "run --exclude res1 res2 --gpu H100 -- ls": "stands before `--`. Quote patterns",
    "exec pod ls -- -l": "stands before `--`. Quote patterns",
    "emulator a -- ls": "stands before `--`. Quote patterns",
    "exec --all-nodes --node 1 pod0 -- true": "--all-nodes cannot be combined with --node",
    "exec --env NOT_HERE pod0 -- true": "--env NOT_HERE: the variable is not set on this machine",
    "exec --env 1=s3cr3t pod0 -- true": "NAME=VALUE",
    "exec pod0 ls -l": "No such option: -l. Put the pod's command after `--`.",
    "exec -t -e A=s3cr3t pod0 -- true": "--env cannot be combined with --tty",
    # It is not clear what is meant, or another command does it.
    "cp a b": "POD:PATH",
    "cp p:a q:b": "POD:PATH",
    "cp ./a:b c": "POD:PATH",
    "cp :a b": "POD:PATH",
    r"cp 'C:\data' b": "POD:PATH",
    "cp 'p:*.py' b": "cp takes no patterns",
    "cp p:a -": "see `primepods exec p -- cat`",
    "cp - p:a": "see `primepods exec p -- cat`",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_is_told_before_any_request(emulator: Emulator, run: Run, words: str) -> None:
    """In one line, which shows no value of a variable."""
    result = run(*shlex.split(words))
    assert (result.exit_code, result.stdout, len(emulator.requests)) == (2, "", 0)
    assert result.stderr.count("\n") == 1
    assert WRONG[words] in result.stderr
    assert "s3cr3t" not in result.stderr
