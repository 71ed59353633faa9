"""`primepods skill`, and `primepods mcp` as far as it needs no agent; tests/agents has the rest."""

import re
import sys
from typing import Any

import pytest
import typer

import primepods
from primepods.cli.app import app

from .conftest import Run


def test_the_skill_fits_this_version(run: Run) -> None:
    """It has the fields that agents read, and each command and option that it names exists."""
    text = run("skill").stdout
    assert text.startswith("---\nname: primepods\ndescription: ")
    assert f'version: "{primepods.__version__}"\n---\n' in text
    group: Any = typer.main.get_command(app)
    named: set[str] = set()
    for line in re.findall(r"`primepods ([^`]+)`", text):
        name, *words = line.partition(" -- ")[0].split()
        if name == "COMMAND":
            continue
        named.add(name)
        options = {word for option in group.get_command(None, name).params for word in option.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
    assert len(named) >= 12


@pytest.mark.parametrize(
    ("name", "missing", "user"),
    [
        ("mcp", "mcp.server.mcpserver", "primepods.cli.agents._tools"),
        ("exporter", "prometheus_client", "primepods.exporter"),
    ],
)
def test_an_extra_is_installed_from_a_clone(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, missing: str, user: str
) -> None:
    """The hint works before the package is on the index."""
    monkeypatch.setitem(sys.modules, missing, None)
    for module in [module for module in sys.modules if module.startswith(user)]:
        monkeypatch.delitem(sys.modules, module)
    result = run(name)
    says = f"{missing} is not installed. Install the extra that contains it: in a clone, run pip install "
    assert (result.exit_code, f"{says}'.[{name}]'" in " ".join(result.stderr.split())) == (2, True)
