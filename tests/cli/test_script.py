"""The guide's whole job in the shell: what it leaves behind, and its exit code."""

from pathlib import Path

import pytest

import primepods
from tests.readme_blocks import ROOT, shell_block
from tests.support.forks import ForkServer
from tests.test_readme import forks, run, world

__all__ = ["forks"]


@pytest.mark.slow
@pytest.mark.parametrize(("failure_rate", "code"), [(0.0, 0), (1.0, 4)])
def test_job(tmp_path: Path, forks: ForkServer, failure_rate: float, code: int) -> None:
    """Its pods are gone in the end, and no others, ready or failed; the exit code tells which."""
    guide = ROOT / "primepods" / "cli" / "README.md"
    block = shell_block("A whole job", guide.read_text(encoding="utf-8"))
    block.options.update(failure_rate=failure_rate, ids=["other"], boot_seconds=0.1)
    with world(block, forks) as environment:
        ended, said = run(block, tmp_path, environment, forks)
        key, url = environment["PRIME_API_KEY"], environment["PRIME_API_BASE_URL"]
        with primepods.Client(key, base_url=url) as client:
            left = [pod.id for pod in client.pods.list()]
            gone = [record.name for record in client.pods.history()]
    assert (ended, left, len(gone)) == (code, ["other"], 3), said
    assert "3 pods confirmed gone." in said
