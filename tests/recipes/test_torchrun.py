"""The recipe for torchrun: two emulated nodes, which are processes of this machine."""

import re
from pathlib import Path
from typing import Any

import pytest

import primepods

from .conftest import Setting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

PEER = """\
import os, socket
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
rank, count = os.environ["NODE_RANK"], os.environ["NNODES"]
for name in ("NODE_RANK", "NNODES", "MASTER_ADDR", "MASTER_PORT"):
    assert os.environ["PET_" + name] == os.environ[name]
if rank == "0":
    with socket.create_server(address) as server:
        other, _ = server.accept()
        print("0 of", count, "heard", other.recv(100).decode())
else:
    while True:
        try:
            with socket.create_connection(address) as master:
                master.sendall(b"rank " + rank.encode())
            break
        except ConnectionRefusedError:
            pass
"""


@pytest.fixture
def recipe(setting: Setting) -> Any:
    """The recipe's program; the other one lies beside it."""
    return setting.load("torchrun")


def test_training(setting: Setting, recipe: Any) -> None:
    """Both nodes train one model with torchrun itself: the weights are equal, and have been learnt."""
    pytest.importorskip("torch", reason="PyTorch is too large to be installed for this test")
    words = ["torchrun", "--nproc-per-node", "2", "train.py"]
    results = recipe.train("env", "OMP_NUM_THREADS=1", *words)
    ranks = re.findall(
        r"rank (\d) of 4: loss 0\.0\d+, weights (\S+)", "".join(result.stdout for result in results)
    )
    assert sorted(rank for rank, _ in ranks) == list("0123"), results
    assert len({weights for _, weights in ranks}) == 1
    assert not setting.emulator.pods


def test_the_variables(setting: Setting, recipe: Any) -> None:
    """Ranks find the first node, with the variables that torchrun reads and the ones without its prefix."""
    Path("peer.py").write_text(PEER, encoding="utf-8")
    results = recipe.train("python", "peer.py", uploads=("peer.py",))
    assert [result.stdout for result in results] == ["0 of 2 heard rank 1\n", ""]
    assert not setting.emulator.pods


def test_a_node_that_fails(setting: Setting, recipe: Any) -> None:
    """The other one ends, too, and nothing is rented any more."""
    with pytest.raises(primepods.CommandError, match=r"\(node 1\) ended with exit code 3"):
        recipe.train("sh", "-c", "[ $NODE_RANK = 0 ] || exit 3; sleep 100")
    assert not setting.emulator.pods
