"""An emulated account, and the programs that the paper shows, in processes of their own."""

import importlib.util
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from primepods.emulator import Emulator, Status
from tests.readme_blocks import PYTHON, ROOT, find_blocks

PAPER = ROOT / ".github" / "ORCHESTRATORS.md"
ONCE_SLOW = "if mkdir ../before; then touch started; sleep 300; else touch again; fi"
"""A command that does not end on the first pod, and does on the next one."""
PATIENCE = 150.0
"""Seconds to wait for what takes seconds: a busy machine needs a minute to start two processes."""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@attrs.frozen
class Setting:
    """Where a recipe runs: its account, its folder, and the processes that the test has started."""

    emulator: Emulator
    folder: Path
    processes: list[subprocess.Popen[bytes]] = attrs.field(factory=list["subprocess.Popen[bytes]"])

    def recipe(self, section: str) -> Path:
        """Write the programs of a section to files, which their first lines name; return the first."""
        blocks = find_blocks(PAPER.read_text(encoding="utf-8"))
        texts = [block.text for block in blocks if block.section == section and block.language in PYTHON]
        files = [self.folder / text.splitlines()[0].removeprefix("# ") for text in texts]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text, encoding="utf-8")
        return files[0]

    def load(self, section: str) -> ModuleType:
        """Import the program of a section in this process."""
        file = self.recipe(section)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)
        return module

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a program of this environment's, in a session of its own; its output goes to a file."""
        with (self.folder / "log").open("ab") as log:
            program = str(Path(sys.executable).parent / words[0])
            process = subprocess.Popen(
                [program, *words[1:]],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process with all that it has started, as a machine that is switched off does."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end_while_it_waits(self, section: str) -> None:
        """Send SIGTERM to a recipe's program while its pods boot; it must leave none, and end with 143."""
        self.emulator.faults.add(Status(503), on="status")
        program = self.start("python", str(self.recipe(section)))
        self.until(lambda: self.emulator.pods)
        program.terminate()
        self.emulator.faults.clear()
        assert program.wait(PATIENCE) == 128 + signal.SIGTERM, self.log()
        assert not self.emulator.pods

    def homes_with(self, name: str) -> list[Path]:
        """The home directories of pods that have a file of this name."""
        return [file.parent for file in self.folder.glob(f"primepods-local-ssh-*/*/{name}")]

    def orders(self) -> int:
        """How many pods were ordered."""
        return len(self.emulator.requests.where(method="POST"))

    def log(self) -> str:
        """What the processes have printed."""
        file = self.folder / "log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; a test that waits too long shows the processes' output."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    """An account whose pods are processes of this machine, known to this process and those that it starts."""
    local_ssh = shlex.join([sys.executable, "-m", "primepods.emulator.local_ssh"])
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", local_ssh)
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "leases"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.chdir(tmp_path)
    with Emulator(boot_seconds=0, delete_seconds=0.1) as emulator:
        monkeypatch.setenv("PRIME_API_KEY", emulator.api_key)
        monkeypatch.setenv("PRIME_API_BASE_URL", emulator.url)
        made = Setting(emulator, tmp_path)
        yield made
        for process in made.processes:
            if process.poll() is None:
                made.kill(process)
