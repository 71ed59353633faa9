"""The table of planted bugs fits the package."""

import ast
from importlib.util import find_spec

import pytest

from .mutants import MUTANTS, ROOT, Mutant, is_killed


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks)
def test_planted_bugs_fit(mutant: Mutant) -> None:
    """The text to replace is there once, what results is Python, and the tests and stories exist."""
    text = mutant.path.read_text()
    assert text.count(mutant.old) == 1
    if mutant.path.suffix == ".py":
        ast.parse(text.replace(mutant.old, mutant.new))
    assert mutant.killers
    for killer in mutant.killers.splitlines():
        file, _, test = killer.partition("::")
        if file.startswith("story "):
            assert find_spec(f"tests.worlds.stories.{file.removeprefix('story ')}")
        else:
            assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text()


@pytest.mark.slow
def test_a_planted_bug_is_noticed_and_other_changes_are_not() -> None:
    """The test that should notice a bug fails with it, and passes without it."""
    mutant = next(each for each in MUTANTS if each.file == "_http/transient.py")
    assert is_killed(mutant, mutant.killers)
    assert not is_killed(mutant._replace(new=mutant.old), mutant.killers)
