"""Pods that send what no honest script would: what is written here, what is raised, and what it costs."""

import asyncio
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import primepods
from primepods import Node, SSHTarget
from primepods.remote import AsyncRemote, SSHOptions
from tests.support.eventually import eventually

from .test_archive import FILE, FOLDER, LINK, Entry, archive
from .test_openssh import high_water

Lie = Callable[[str], AsyncRemote]

_POD = """
import re, sys, time
mark = re.findall("primepods-[0-9a-f]{32}", sys.argv[-1])[-1].encode()
out, err = sys.stdout.buffer, sys.stderr.buffer
def say(data, *files):
    for file in files or (out,):
        file.write(data)
        file.flush()
say(mark + b" ready\\n", out, err)
for _ in range(int(sys.stdin.buffer.readline())):
    sys.stdin.buffer.readline()
def end(code=b"0"):
    say(mark + b" exit " + code + b"\\n", out, err)
"""


@pytest.fixture
def lie(tmp_path: Path) -> Lie:
    """Makes a pod that does what a few lines of Python say, instead of the script."""

    def make(lines: str) -> AsyncRemote:
        program = tmp_path / "liar.py"
        program.write_text(_POD + lines, encoding="utf-8")
        command = f"'{sys.executable}' '{program}'"
        nodes = (Node(ip=None, ssh=SSHTarget("root", "pod")),)
        return AsyncRemote("pod1", nodes, SSHOptions(ssh_command=command))

    return make


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a repository in it."""
    (tmp_path / "here" / ".git" / "hooks").mkdir(parents=True)
    return tmp_path / "here"


def sends(kind: str, *entries: Entry) -> str:
    """The lines of a pod that sends an archive."""
    return f"say({kind.encode()!r} + b'\\n' + {archive(*entries)!r})\nend()\n"


async def test_a_link_in_place_of_a_file_is_refused(lie: Lie, here: Path) -> None:
    """The next copy would write through it."""
    with pytest.raises(primepods.TransferError, match="something other than one file"):
        await lie(sends("file", ("out", LINK, ".git"))).download("out", here / "results")
    assert names(here) == [".git"]


@pytest.mark.parametrize("target", ["results", "results/", "results/hooks", "results/new/file"])
async def test_no_copy_goes_through_a_link_of_another_copy(lie: Lie, here: Path, target: str) -> None:
    """A link that stays in its folder may lead to what the user has there, such as a repository."""
    await lie(sends("folder", ("results", LINK, ".git"))).download("out", here)
    assert (here / "results").is_symlink()
    for kind, name in (("folder", "hooks/post-checkout"), ("file", "post-checkout")):
        with pytest.raises(primepods.TransferError, match="an earlier copy may have made"):
            await lie(sends(kind, (name, FILE, ""))).download("out", f"{here}/{target}")
    assert [path.name for path in (here / ".git").rglob("*")] == ["hooks"]
    # Merged into the folder itself, a folder in the place of the link is refused, too.
    with pytest.raises(primepods.TransferError, match="a folder on the pod, but not here"):
        await lie(sends("folder", ("results", FOLDER, ""), ("results/x", FILE, ""))).download("out", here)


async def test_a_link_of_the_users_own_is_followed(lie: Lie, here: Path, tmp_path: Path) -> None:
    """An absolute one, which no copy makes: such as to another disk."""
    (tmp_path / "disk").mkdir()
    (here / "results").symlink_to(tmp_path / "disk")
    await lie(sends("folder", ("x", FILE, ""))).download("out", here / "results")
    assert (tmp_path / "disk" / "x").exists()


@pytest.mark.parametrize(
    "lines",
    [
        f"say(b'folder\\n' + {archive(('a', FILE, ''), ('b', FILE, ''))[:1024]!r})\nend()",
        f"say(b'file\\n' + {archive(('a', FILE, ''))[:1024]!r})\nend()",
        "say(b'folder\\n')\nend()",
        "say(b'file\\n' + bytes(1024))\nend()",
        "say(b'neither\\n')\nend()",
        "end()",
        f"say(b'folder\\n' + {archive()!r})\nend(b'nine')",
        f"say(b'folder\\n' + {archive()!r})\nend(b'9' * 5_000)",
        f"say(b'folder\\n' + {archive()!r})\nsay(mark + b' exit ', err)",
    ],
)
async def test_a_pod_that_stops_early_and_claims_success_is_not_believed(
    lie: Lie, here: Path, lines: str
) -> None:
    """Nothing is changed, and no folder that the copy would have needed is left."""
    with pytest.raises((primepods.TransferError, primepods.ConnectionLostError)):
        await lie(lines).download("out", f"{here}/new/deep/")
    assert names(here) == [".git"]


async def test_a_file_that_grew_while_it_was_read_is_complete(lie: Lie, here: Path) -> None:
    """GNU's tar says so, with code 1; after any other message the copy has failed."""
    message = "tar: ./log: file changed as we read it"
    for said, is_copied in ((message, True), (f"{message}\ntar: ./x: Permission denied", False), ("", False)):
        lines = f"say(b'folder\\n' + {archive(('log', FILE, ''))!r})\nsay({said.encode()!r}, err)\nend(b'1')"
        copy = lie(lines).download("out", here / "new")
        if is_copied:
            await copy
            assert (here / "new" / "log").exists()
            (here / "new" / "log").rename(here / "log")
        else:
            with pytest.raises(primepods.TransferError):
                await copy
            assert names(here / "new") == []


@pytest.mark.parametrize("lines", ["end()", "sys.stdin.buffer.read(5_000_000)\nend()"])
async def test_a_pod_that_did_not_read_an_upload_is_not_believed(
    lie: Lie, tmp_path: Path, lines: str
) -> None:
    """Whatever it says."""
    with (tmp_path / "big").open("wb") as file:
        file.truncate(20_000_000)
    with pytest.raises(primepods.TransferError, match="did not read all of it"):
        await lie(lines).upload(tmp_path / "big", "big")


async def test_an_endless_archive_ends_with_the_copy(lie: Lie, here: Path) -> None:
    """Of what comes after an error, and after the end of the archive, nothing is read for long."""
    for first in (b"\1" * 512, archive()):
        endless = f"say(b'folder\\n' + {first!r})\nwhile True: say(b'x' * 100_000)"
        with anyio.fail_after(100), pytest.raises(primepods.TransferError):
            await lie(endless).download("out", here / "new")
    assert names(here) == [".git"]


@pytest.mark.parametrize(
    "lines",
    [
        (
            "member = tarfile.TarInfo('x'); member.type = b'L'; member.size = 1 << 30\n"
            "say(b'folder\\n' + member.tobuf()); flood()"
        ),
        "flood()",
        "say(mark + b' exit '); say(mark + b' exit ', err); flood(); end()",
    ],
    ids=["a name", "a line", "an exit mark"],
)
@pytest.mark.slow
async def test_what_has_no_end_needs_no_memory(lie: Lie, here: Path, lines: str) -> None:
    """However it is sent; 200 MB take less than 60."""
    flood = "import tarfile\ndef flood():\n    for _ in range(200): say(b'9' * 1_000_000)\n"
    remote = lie(flood + lines)
    before = high_water()
    with pytest.raises((primepods.TransferError, primepods.ConnectionLostError)):
        await remote.download("out", here / "new")
    if "exit" in lines:
        await remote.run("true", on_line=lambda _: None)
    assert high_water() - before < 60 << 20


async def test_a_cancelled_download_leaves_nothing(lie: Lie, here: Path) -> None:
    """Also in a scope that stays cancelled, in which every further wait fails at once."""
    member = tarfile.TarInfo("big")
    member.size = 1 << 30
    stalls = f"say(b'folder\\n' + {member.tobuf()!r} + b'x' * 100_000)\ntime.sleep(60)"
    with anyio.CancelScope() as scope:

        async def cancel_when_begun() -> None:
            await eventually(lambda: list(here.rglob("big")))
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel_when_begun)
            await lie(stalls).download("out", here / "new")
    assert names(here) == [".git"]


async def test_nothing_is_made_here_before_the_pod_sends(lie: Lie, here: Path) -> None:
    """No folder is left by a copy that never began."""
    task = asyncio.create_task(lie("time.sleep(60)").download("out", f"{here}/new/deep/"))
    await asyncio.sleep(0.5)
    assert names(here) == [".git"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names(here) == [".git"]


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return [path.name for path in folder.iterdir()]
