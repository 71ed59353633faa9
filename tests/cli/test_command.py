"""The command as a whole: its script, its version, and what it says where its extra is missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import primepods
from primepods import cli
from primepods.cli.app import app
from primepods.emulator import Emulator
from tests.cli.conftest import Run

FULL = Path("/dev/full")


def hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Let the command be imported anew, in an interpreter that does not have `module`."""
    for name in [name for name in sys.modules if name.startswith("primepods.cli.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(cli, name.rpartition(".")[2], raising=False)
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)


def test_version() -> None:
    """`--version` names the package and its version."""
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"primepods {primepods.__version__}\n")


def test_a_word_that_is_nearly_right(run: Run) -> None:
    """What is meant is guessed, in a sentence; typer's oldest version does not guess."""
    said = "primepods: No such command 'lst'.{} See `primepods --help`.\n"
    assert run("lst").stderr in {said.format(" Did you mean 'list'?"), said.format("")}


def test_names_and_places_of_other_commands(emulator: Emulator, run: Run) -> None:
    """Options of the connection may stand before the command, whose name may be docker's or the vendor's."""
    listed = run("list", "--ids").stdout
    hints = {"login": "prime login", "logout": "Unset", "top": "primepods watch", "version": "--version"}
    for word, hint in hints.items():
        result = run(word)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"primepods {word}: there is no such command. " in result.stderr
        assert hint in result.stderr
    for alias in ("ls", "ps"):
        assert run("--timeout", "20s", alias, "--ids").stdout == listed
    for alias in ("inspect", "show"):
        assert run(alias, "pod0", "-o", "json").stdout == run("get", "pod0", "-o", "json").stdout
    assert "GET /api/v1/pods" in run("--verbose", "list").stderr
    result = run("--team", "nobody", "list", "--ids")
    assert (result.exit_code, result.stdout, "no team 'nobody' of yours" in result.stderr) == (2, "", True)
    assert run("--team", "nobody", "list", "--team", "clemulator0002team").stderr == "No pods match.\n"
    assert run("list", "--team", "clemulator0002team", "-q").output == "", (
        "a script that asks for ids gets ids"
    )
    assert run("--base-url", "http://127.0.0.1:9", "list", "--base-url", emulator.url).exit_code == 0
    assert run("--timeout", "0.3s", "wait", "cm4x7", "--until", "ready").exit_code == 3
    assert (
        run("list", "--json").stdout
        == run("list", "--format", "json").stdout
        == run("list", "-o", "json").stdout
    )
    assert run("rm", "-f", "pod0").stdout == "pod0\n"
    assert run("help", "delete").stdout == run("delete", "--help").stdout
    assert run("help").stdout == run("--help").stdout


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="a disk that is always full")
@pytest.mark.parametrize(("arguments", "unbuffered"), [(["list"], "1"), (["list", "--help"], "")])
def test_a_full_disk_is_one_line_and_exit_code_1(
    emulator: Emulator, arguments: list[str], unbuffered: str
) -> None:
    """The interpreter, which flushes stdout once more at its exit, adds nothing and keeps the code."""
    command = [sys.executable, "-m", "primepods", *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with FULL.open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    assert done.returncode == 1
    assert re.fullmatch(r"primepods[a-z ]*: No space left on device\n", done.stderr)


@pytest.mark.skipif(not FULL.exists(), reason="a disk that is always full")
def test_errors_that_cannot_be_written_keep_the_exit_code() -> None:
    """A full stderr is no reason for 120, the interpreter's own."""
    command = [sys.executable, "-m", "primepods", "get"]
    with FULL.open("w") as full:
        done = subprocess.run(command, stderr=full, env=os.environ | {"PYTHONUNBUFFERED": ""}, check=False)
    assert done.returncode == 2


def test_help_waits_for_nothing_that_it_does_not_need(clean_environment: object) -> None:
    """The client, its libraries and the emulator are imported by the commands that use them."""
    code = (
        "import sys; from primepods.cli.app import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, _, modules = done.stdout.rstrip().rpartition("\n")
    assert "List your pods" in shown
    heavy = {"aiohttp", "asyncio", "cattrs", "pydantic", "rich", "primepods.emulator", "primepods.models"}
    assert not heavy & set(modules.split())


@pytest.mark.parametrize("completed", [None, "primepods l", "primepods run --each x --gpu-c"])
def test_what_is_typed_most_does_not_wait_for_pydantic(emulator: Emulator, completed: str | None) -> None:
    """Neither a list without options nor the completion of a command's name or option imports pydantic."""
    last = str((completed or "").count(" "))
    variables = {"_PRIMEPODS_COMPLETE": "complete_bash", "COMP_WORDS": completed, "COMP_CWORD": last}
    environ = os.environ | {name: value for name, value in variables.items() if completed and value}
    command = [sys.executable, "-X", "importtime", "-m", "primepods", "list"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    shown = {None: "train-0", "primepods l": "list\nlogs\n"}.get(completed, "--gpu-count\n")
    assert shown in done.stdout
    assert not re.search(r"\| +(pydantic|rich)\n", done.stderr)


@pytest.mark.slow
def test_a_command_imports_no_other(clean_environment: object) -> None:
    """Only its own module is imported, and those that it needs itself; for the version, none."""
    code = (
        "import sys; from primepods.cli.app import app\n"
        "names = 'account', 'pods.disks', 'pods.list_pods', 'running.run'\n"
        "for words in (['--version'], ['disks', 'create', '--help']):\n"
        "    app(words, standalone_mode=False)\n"
        "    print(*(name for name in names if f'primepods.cli.{name}' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, imported, *_, last = done.stdout.splitlines()
    assert version.startswith("primepods ")
    assert (imported, last) == ("", "pods.disks")


NOT_CALLING = ["demo", "emulator"]
CALLING = "doctor list get status watch wait logs ssh offers create delete history sweep config"


def test_help_of_each_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root names it, it fits 80 columns, and each that calls the API names the root's common options."""
    monkeypatch.setenv("COLUMNS", "80")
    root = run().stdout
    assert run("list", "-h").stdout == run("list", "--help").stdout
    for name in [*CALLING.split(), *NOT_CALLING]:
        shown = run(name, "--help").stdout
        assert f"Usage: primepods {name} " in shown
        assert max(map(len, shown.splitlines())) <= 80
        assert not re.search("<(bool|str|int|float|list)", shown), "types of Python"
        common = {"--base-url", "--context", "--team", "--timeout", "--verbose"}
        has = {option for option in common if option in shown}
        assert has == (set() if name in NOT_CALLING else common), name
        assert "Connection" not in shown
        assert f"\n  {name} " in root


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_missing_extra_is_explained(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without typer or rich the command says what to install, without a traceback."""
    hide(monkeypatch, library)
    monkeypatch.setattr(sys, "argv", ["primepods", "demo"])
    with pytest.raises(SystemExit, match=r"pip install '\.\[cli\]'") as ended:
        cli.main()
    assert library in str(ended.value)


def test_other_missing_modules_are_not_blamed_on_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation shows what is broken."""
    hide(monkeypatch, "primepods.cli._shared.completion")
    with pytest.raises(ModuleNotFoundError, match=r"primepods\.cli\._shared\.completion"):
        cli.main()


@pytest.mark.slow
def test_streams_that_are_closed_or_narrow(emulator: Emulator) -> None:
    """A closed stdout gets nothing; what an encoding lacks is a question mark; neither is a traceback."""
    command = [sys.executable, "-W", "error", "-m", "primepods", "get", "odd"]
    emulator.add_pod(id="odd", name="\N{SNOWMAN}")
    narrow = subprocess.run(
        command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=True
    )
    assert re.search(rb"name +\?\n", narrow.stdout)
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True, text=True, check=False
    )
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", "")
    for code, arguments in ((2, ["delete", "odd"]), (2, ["create", "--gpu-type", "H100"]), (0, ["get", "-"])):
        command = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "primepods", *arguments]
        deaf = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (deaf.returncode, "Traceback" in deaf.stderr) == (code, False), deaf.stderr
    assert list(emulator.pods) == ["pod0", "pod1", "pod2", "odd"]
