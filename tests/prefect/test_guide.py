"""The deployment file of the guide, deployed and run."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra `prefect`")

import yaml  # type: ignore[import-untyped]  # nothing of it is used but a parser

from primepods.prefect import PrimePodVariables
from tests.readme_blocks import ROOT, find_blocks

from .server import LOCAL_SSH, Setting, eventually

GUIDE = ROOT / "primepods" / "prefect" / "README.md"
TRAIN = """
from prefect import flow

@flow(log_prints=True)
def train(epochs: int) -> None:
    print(f"{epochs} epochs")
"""


def deployment_file() -> dict[str, Any]:
    """The guide's prefect.yaml."""
    [block] = [block for block in find_blocks(GUIDE.read_text(encoding="utf-8")) if block.language == "yaml"]
    content: dict[str, Any] = yaml.safe_load(block.text)
    return content


def repository(folder: Path) -> Path:
    """A repository with the flow, on the branch of the guide."""
    path = folder / "training"
    path.mkdir()
    (path / "train.py").write_text(TRAIN)
    git = ["git", "-C", str(path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q", "-b", "main"], ["add", "train.py"], ["commit", "-q", "-m", "Training"]):
        subprocess.run([*git, *words], check=True, timeout=30)
    return path


def test_the_guide_has_each_job_variable() -> None:
    """In its table; `labels` is Prefect's, and pods have none."""
    text = GUIDE.read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {word.strip(" `") for row in rows for word in row.split(",")}
    assert set(PrimePodVariables.model_fields) - {"labels"} <= named


@pytest.mark.slow
@pytest.mark.timeout(500)
async def test_the_deployment_file_runs(setting: Setting, tmp_path: Path) -> None:
    """`prefect deploy --all` accepts it, and the flow runs from its repository on a pod of its kind."""
    setting.pool = "gpus"
    await setting.start_worker()
    content = deployment_file()
    [deployment] = content["deployments"]
    source = repository(tmp_path)
    # Not on this machine: the repository, the packages, and pods to log in to.
    content["pull"][0]["prefect.deployments.steps.git_clone"]["repository"] = str(source)
    deployment["work_pool"]["job_variables"] |= {"setup": "true", "ssh_command": LOCAL_SSH}
    (source / "prefect.yaml").write_text(yaml.safe_dump(content))
    deploy = setting.server.command("--no-prompt", "deploy", "--all", log=source / "deploy.log")
    await eventually(lambda: not deploy.is_alive)
    found = await setting.client.read_deployment_by_name("train/on-h100")
    run = (await setting.client.create_flow_run_from_deployment(found.id)).id
    [ended] = await setting.ended(run)
    assert ended.state_name == "Completed"
    await setting.log_has(run, "10 epochs", "1 x H100_80GB")
