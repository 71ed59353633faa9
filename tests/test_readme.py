"""Everything that the README and the papers in the folders show is run: their Python and their commands.

The README's "Try it" and "Run the tests" are run by `.ci/run` instead, each in a fresh copy of the tree.
How a block says what it needs is described in `readme_blocks.py`.
"""

import os
import pkgutil
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import primepods.cli
from primepods.emulator import Emulator
from tests.readme_blocks import PAPERS, PYTHON, README, ROOT, SHELL, Block, find_blocks, shell_block
from tests.support.forks import ForkServer

RUN_BY_CI = ("Try it", "Run the tests")
SECONDS = 100
FILE = "test_readme_block.py"
NOT_NEEDED = ("hypothesispytest", "pytest_cov", "randomly", "timeout", "xdist", "xdist.looponfail")
"""Plugins of our own tests, which take a second to load."""
TRAINING = "import os\nos.makedirs('out', exist_ok=True)\nopen('out/result', 'w').close()\nprint('trained')\n"


def runnable(paper: Path) -> list[Any]:
    """The blocks of a paper that are run here, each with its name in pytest's output."""
    return [
        pytest.param(block, id=f"{paper.relative_to(ROOT).as_posix()}:{block.line}")
        for block in find_blocks(paper.read_text(encoding="utf-8"))
        if block.language in PYTHON + SHELL and not block.options.get("skip")
        if not (paper == README and block.section in RUN_BY_CI)
    ]


@contextmanager
def world(block: Block, forks: ForkServer) -> Generator[dict[str, str]]:
    """An emulator as the block wants it; gives the environment in which the block runs."""
    options: dict[str, Any] = {"pods": 3, "boot_seconds": 0.0, "delete_seconds": 0.0} | block.options
    ids: list[str] = options.pop("ids", [])
    stub: str | None = options.pop("stub", None)
    has_local_ssh: bool = options.pop("local_ssh", False)
    for steering in ("until", "raises", "needs", "file"):
        options.pop(steering, None)
    with Emulator(**options) as emulator, tempfile.TemporaryDirectory() as stubs:
        # Ctrl-C must reach what is interrupted.
        if "until" not in block.options:
            make_program(Path(stubs, "primepods"), forks.script("primepods"))
        if stub is not None:
            (Path(stubs) / stub).symlink_to(shutil.which("true") or "true")
        ssh = [sys.executable, "-m", "primepods.emulator.local_ssh", "--emulator", emulator.url]
        login = {"PRIMEPODS_SSH_COMMAND": shlex.join(ssh)} if has_local_ssh else {}
        for pod_id in ids:
            emulator.add_pod(id=pod_id)
        path = os.pathsep.join([stubs, str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        # What steers this test run is not meant for one that a block starts.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        yield (
            inherited
            | login
            | {
                "PRIME_API_KEY": emulator.api_key,
                "PRIME_API_BASE_URL": emulator.url,
                "PRIMEPODS_WATCHDOG_KEY": emulator.add_api_key({"instances": {"read": True, "write": True}}),
                "PATH": path,
                "TMPDIR": stubs,
                "PYTHONUNBUFFERED": "1",
                "PYTHONWARNINGS": "error",
            }
        )


def make_program(file: Path, text: str) -> None:
    """Make a program."""
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)


def command(block: Block, folder: Path, forks: ForkServer) -> list[str]:
    """What runs the block; one that defines tests is run by pytest, other Python by a fork."""
    if block.language in SHELL:
        return ["bash", "-euo", "pipefail", "-c", block.command]
    file = folder / FILE
    file.write_text(block.text, encoding="utf-8")
    if "def test_" in block.text:
        return [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-pno:asyncio",  # pytest-asyncio warns about what a reader of the block has not set
            *(f"-pno:{name}" for name in NOT_NEEDED),
            "--rootdir",
            str(folder),
            str(file),
        ]
    return forks.argv(str(file))


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """What runs Python blocks, and the command in shell blocks."""
    commands = (module.name for module in pkgutil.walk_packages(primepods.cli.__path__, "primepods.cli."))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"}
    folder = tmp_path_factory.mktemp("forks")
    with ForkServer(folder, ["primepods.sync", *commands], environment) as forks:
        yield forks


def run(block: Block, folder: Path, environment: dict[str, str], forks: ForkServer) -> tuple[int, str]:
    """Run the block to its end; returns exit code and output."""
    done = subprocess.run(
        command(block, folder, forks),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


def run_until(
    block: Block, folder: Path, environment: dict[str, str], forks: ForkServer, sign: str
) -> tuple[int, str]:
    """Run a block that does not end by itself, press Ctrl-C when it printed `sign`; exit code and output."""
    process = subprocess.Popen(
        command(block, folder, forks),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    output: list[str] = []
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if sign in line and sum(sign in line for line in output) == 1:
                os.killpg(process.pid, signal.SIGINT)
    watchdog.cancel()
    return process.returncode, "".join(output)


def without_numbers(line: str) -> str:
    """A line of output whose words with digits, such as ids and prices, and names of runs may be others."""
    return re.sub(r"[\w.$@-]*\d[\w.$@-]*|\brun-[a-z]{10}\b", "#", line)


@pytest.mark.parametrize("section", RUN_BY_CI)
def test_sections_run_by_ci_hold_one_command(section: str) -> None:
    """`.ci/run` finds its two commands: one block, one line, nothing to fill in; others are found here."""
    assert sum(len(runnable(paper)) for paper in PAPERS) > 60
    assert len(shell_block(section, README.read_text(encoding="utf-8")).command.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for paper in PAPERS for block in runnable(paper)])
def test_block_runs(block: Block, tmp_path: Path, forks: ForkServer) -> None:
    """A reader who pastes the block sees it work."""
    lacking = [
        name
        for name in block.options.get("needs", "").split(",")
        if name and not (find_spec(name) or shutil.which(name))
    ]
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    expected: str | None = block.options.get("raises")
    sign: str | None = block.options.get("until")
    if "file" in block.options:
        (tmp_path / block.options["file"]).write_text(TRAINING, encoding="utf-8")
    with world(block, forks) as environment:
        if sign is not None:
            code, output = run_until(block, tmp_path, environment, forks, sign)
            assert sign in output, output
        else:
            code, output = run(block, tmp_path, environment, forks)
    if expected is None:
        assert code == 0, f"{output}\n--- the block, from line {block.line}:\n{block.text}"
        lines = iter([without_numbers(line) for line in output.splitlines()])
        assert [line for line in block.output if without_numbers(line) not in lines] == [], output
    else:
        assert code != 0, output
        assert expected in output.splitlines()[-1], output


@pytest.mark.slow
def test_failures_are_seen(tmp_path: Path, forks: ForkServer) -> None:
    """A block that breaks, a command that fails, and a test that fails in a block are failures here too."""
    blocks: list[tuple[str, str]] = [
        ("python", "import asyncio\nawait asyncio.sleep(0)\nraise SystemExit(3)"),
        ("bash", "false\ntrue"),
        ("python", "def test_it():\n    assert False"),
        ("python", "import warnings\nwarnings.warn('x')"),
    ]
    with world(Block("", "", "", 0), forks) as environment:
        codes = [run(Block(kind, text, "", 0), tmp_path, environment, forks)[0] for kind, text in blocks]
    assert 0 not in codes


def test_blocks_run_against_the_emulator(tmp_path: Path, forks: ForkServer) -> None:
    """A block finds key and URL in the environment, and the pods that it asked for."""
    options: dict[str, Any] = {"pods": 2, "ids": ["known1"]}
    text = (
        "import primepods\n"
        "async with primepods.AsyncClient() as client:\n"
        "    assert (await client.pods.get('known1')).id == 'known1'\n"
        "    print(len(await client.pods.page()))\n"
    )
    block = Block("python", text, "", 0, options)
    with world(block, forks) as environment:
        assert run(block, tmp_path, environment, forks) == (0, "3\n")
