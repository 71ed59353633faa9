"""Every Python example of every paper passes mypy and pyright, both strict, as its reader's program would."""

import ast
import json
import re
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.readme_blocks import PAPERS, PYTHON, ROOT, find_blocks

STUBS = {"pandas": "pandas-stubs"}
"""Libraries whose types come separately."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


PARTLY_TYPED = re.compile(
    r"^(from|import) (airflow|celery|dagster|dagster_pipes|dask|distributed|prefect|ray)\b", re.MULTILINE
)
"""Libraries whose own functions no program can use in pyright's strict mode."""
UNTYPED = re.compile(r"^(from|import) (celery|dagster|dask|distributed|ray)\b", re.MULTILINE)
"""Libraries without types for mypy, or with functions without: a program cannot call them under --strict."""
SKIPPED = "[mypy]\n[mypy-dagster.*,distributed.*,ray.*]\nfollow_imports = skip\n"
"""What mypy does not read, which would take it half a minute; pyright does."""
ORCHESTRATORS = ROOT / ".github" / "ORCHESTRATORS.md"
"""Checked where its libraries are installed, which are in no extra: by the step `recipes` of .ci/run."""


def as_module(text: str) -> str:
    """A block as a module; one that awaits at the top is the body of a function."""
    header = "# pyright: basic\n" if PARTLY_TYPED.search(text) else ""
    if UNTYPED.search(text):
        codes = "import-untyped, misc, no-any-return, no-untyped-call, untyped-decorator"
        header += f'# mypy: disable-error-code="{codes}"\n'
    try:
        compile(text, "block", "exec")
    except SyntaxError:
        # What was a name of the module is a local there, which nothing need use.
        header += "# pyright: reportUnusedVariable=false\n"
        text = f"async def block() -> None:\n{textwrap.indent(text, '    ')}"
    return header + text


def can_be_checked(text: str) -> bool:
    """Whether what a block imports is installed, with its types."""
    for node in ast.walk(ast.parse(as_module(text))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in (name.split(".")[0] for name in names):
            try:
                version(STUBS.get(name, "primepods"))
            except PackageNotFoundError:
                return False
            if find_spec(name) is None:
                return False
    return True


@pytest.fixture(scope="module", params=["orchestrators", "others"])
def blocks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module for each block."""
    folder = tmp_path_factory.mktemp("blocks")
    papers = [paper for paper in PAPERS if (paper == ORCHESTRATORS) == (request.param == "orchestrators")]
    for paper in papers:
        name = "_".join(paper.relative_to(ROOT).with_suffix("").parts).strip(".")
        for block in find_blocks(paper.read_text(encoding="utf-8")):
            if block.language not in PYTHON:
                continue
            if can_be_checked(block.text):
                file = folder / f"{name}_line_{block.line}.py"
                file.write_text(as_module(block.text), encoding="utf-8")
            # PyTorch is too large to be installed for this.
            elif paper == ORCHESTRATORS and "import torch" not in block.text:
                pytest.skip("needs all orchestrators")
    assert len(list(folder.glob("*.py"))) > (20 if request.param == "others" else 5)
    return folder


def test_examples_pass_mypy(blocks: Path) -> None:
    """With --strict."""
    pytest.importorskip("mypy")
    config = blocks / "mypy.ini"
    config.write_text(SKIPPED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", f"--config-file={config}", "--no-error-summary"]
    files = sorted(map(str, blocks.glob("*.py")))
    cache = f"--cache-dir={blocks / 'cache'}"
    done = subprocess.run(
        [*command, cache, *files], cwd=ROOT, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.stdout + done.stderr == ""


def test_examples_pass_pyright(blocks: Path) -> None:
    """In its strict mode."""
    if shutil.which("pyright") is None:
        pytest.skip("needs pyright")
    config = blocks / "pyrightconfig.json"
    config.write_text(json.dumps({"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}), encoding="utf-8")
    command = ["pyright", "--pythonpath", sys.executable, "-p", str(config)]
    done = subprocess.run(command, cwd=blocks, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout
