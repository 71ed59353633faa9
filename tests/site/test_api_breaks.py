"""The gate that compares public names with those of the last release."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.readme_blocks import ROOT

pytest.importorskip("griffe", reason="the group lint is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Change = Callable[[str, str, str], None]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the package as it is, committed."""
    shutil.copytree(ROOT / "primepods", tmp_path / "primepods", ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "All")
    return tmp_path


@pytest.fixture
def change(repository: Path) -> Change:
    """A function that replaces a text in a module of the package."""

    def replace(module: str, old: str, new: str) -> None:
        file = repository / "primepods" / module
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")

    return replace


def git(folder: Path, *words: str) -> None:
    """Run git in a folder."""
    subprocess.run(["git", "-C", folder, *words], check=True)


def check(repository: Path) -> tuple[int, str]:
    """Run the gate; returns its exit code and output."""
    done = subprocess.run(
        [sys.executable, ROOT / ".github" / "api_breaks.py", repository],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_without_a_release_there_is_nothing_to_compare(repository: Path) -> None:
    """No tag: it says so, and passes."""
    assert check(repository) == (0, "Public names: there is no release to compare with.\n")


def test_breaks_of_public_names_are_found(repository: Path, change: Change) -> None:
    """A renamed method, parameter and name are found; what is private or new is not."""
    git(repository, "tag", "v0.1.0")
    change("resources/pods.py", "    async def logs(", "    async def log(")
    change("waiting/conditions.py", "def ready(status", "def ready(state")
    change("emulator/__init__.py", "BadChunk Cut ", "BadChunk ")
    change("leasing/supervisor.py", "class LeaseSupervisor", "class Supervisor")
    code, output = check(repository)
    assert code == 1
    broken = {line.split(":")[0].strip() for line in output.splitlines()[1:]}
    assert broken == {"AsyncPods.logs", "ready", "emulator.Cut"}
    # Before 1.0, a minor release may do that.
    change("_version.py", "0.1.0", "0.2.0")
    assert check(repository)[0] == 0


def test_what_is_equal_passes(repository: Path) -> None:
    """The package breaks nobody by what it is."""
    git(repository, "tag", "v0.1.0")
    assert check(repository) == (0, "Public names: 0 changes since v0.1.0 break users.\n")
