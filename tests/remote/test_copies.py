"""Files and folders to pods and from them: whole or not at all."""

import io
import os
import shlex
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import primepods
from primepods.remote import AsyncRemote
from primepods.remote._exclude import Exclusion
from primepods.remote._pack import Progress, pack
from tests.support.eventually import eventually

from .conftest import Pod

ODD_NAMES = ["a b", "-rf", "ünï", "new\nline", "it's", '"', "$HOME", "*", "x" * 150, ".hidden", "back\\slash"]


def make_tree(folder: Path) -> Path:
    """A folder with all that there can be in one."""
    deep = folder / "sub" / "sub2"
    deep.mkdir(parents=True)
    (folder / "empty").mkdir(mode=0o700)
    for name in ODD_NAMES:
        (deep / name).write_text(name, encoding="utf-8")
    os.close(os.open(os.fsencode(folder) + b"/not-\xff-utf8", os.O_CREAT))
    (folder / "run.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "run.sh").chmod(0o755)
    (folder / "key").write_text("secret", encoding="utf-8")
    (folder / "key").chmod(0o600)
    (folder / "read-only").write_text("", encoding="utf-8")
    (folder / "read-only").chmod(0o444)
    (folder / "link").symlink_to("sub/sub2/it's")
    (folder / "links").mkdir()
    (folder / "links" / "up").symlink_to("../key")
    os.utime(deep, (1_000_000, 1_000_000))
    os.utime(deep.parent, (2_000_000, 2_000_000))
    os.link(folder / "key", folder / "hard link")
    return folder


def describe(folder: Path) -> dict[bytes, tuple[Any, ...]]:
    """All that is in a folder: kinds, modes, times and contents."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        name = os.fsencode(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", path.readlink())
        elif path.is_dir():
            # BusyBox makes links that lead upwards last.
            time = None if path.name == "links" else int(path.stat().st_mtime)
            found[name] = ("folder", stat.S_IMODE(mode), time)
        else:
            found[name] = (stat.S_IMODE(mode), int(path.stat().st_mtime), path.read_bytes())
    return found


async def test_a_folder_goes_to_the_pod_and_back(pod: Pod, remote: AsyncRemote, tmp_path: Path) -> None:
    """Modes, times, links, empty folders and the oddest names are kept, both ways; nothing else is left."""
    tree = make_tree(tmp_path / "tree")
    await remote.upload(tree, "~/up loaded/deep")
    assert describe(pod.home / "up loaded" / "deep") == describe(tree)
    await remote.download("up loaded/deep/", tmp_path / "back" / "again")
    assert describe(tmp_path / "back" / "again") == describe(tree)
    assert [path.name for path in (pod.home / "up loaded").iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["again"]


@pytest.mark.parametrize(
    ("place", "arrives"),
    [
        ("new/name", "new/name"),
        ("there", "there/it's"),
        pytest.param("into/", "into/it's", marks=pytest.mark.slow),
        pytest.param("old", "old", marks=pytest.mark.slow),
    ],
)
async def test_a_file_goes_to_the_pod_and_back(
    pod: Pod, remote: AsyncRemote, tmp_path: Path, place: str, arrives: str
) -> None:
    """Under the name given, or into a folder that is there or has a slash; an old one is replaced."""
    source = tmp_path / "it's"
    source.write_bytes(b"\0\xff" * 100_000)
    source.chmod(0o640)
    for folder in (pod.home, tmp_path / "here"):
        (folder / "there").mkdir(parents=True)
        (folder / "old").write_text("old", encoding="utf-8")
    await remote.upload(source, place)
    assert (pod.home / arrives).read_bytes() == source.read_bytes()
    assert stat.S_IMODE((pod.home / arrives).stat().st_mode) == 0o640
    await remote.download(str(pod.home / arrives), f"{tmp_path / 'here'}/{place}")
    name = arrives if arrives == place else f"{place.rstrip('/')}/it's"
    assert (tmp_path / "here" / name).read_bytes() == source.read_bytes()


async def test_a_folder_that_is_there_keeps_its_other_files(
    pod: Pod, remote: AsyncRemote, tmp_path: Path
) -> None:
    """Files of the same names are replaced, also where one is a link; folders are merged, both ways."""
    new = tmp_path / "new"
    (new / "sub").mkdir(parents=True)
    (new / "added" / "deep").mkdir(parents=True)
    for name in ("both", "sub/both", "sub/new", "added/deep/file", "linked"):
        (new / name).write_text("new", encoding="utf-8")
    for folder in (pod.home / "work", tmp_path / "here"):
        (folder / "sub").mkdir(parents=True)
        for name in ("both", "sub/both", "sub/old", "elsewhere"):
            (folder / name).write_text("old", encoding="utf-8")
        (folder / "linked").symlink_to("elsewhere")
    await remote.upload(new, "work")
    await remote.download("work", tmp_path / "here")
    for folder in (pod.home / "work", tmp_path / "here"):
        texts = {
            path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
            for path in folder.rglob("*")
            if path.is_file()
        }
        assert texts == {
            "both": "new",
            "sub/both": "new",
            "sub/new": "new",
            "sub/old": "old",
            "added/deep/file": "new",
            "elsewhere": "old",
            "linked": "new",
        }


@pytest.mark.slow
@pytest.mark.parametrize("pod", ["emulated", "busybox"], indirect=True)
async def test_what_does_not_fit_changes_nothing(pod: Pod, remote: AsyncRemote, tmp_path: Path) -> None:
    """A file where a folder must be, a folder where a file must be, and a link to a folder are told."""
    for made, there in (("a-folder", "a-file"), ("a-file", "a-folder"), ("a-folder", "a-link")):
        new, old, here = (folder / made / there for folder in (tmp_path / "new", pod.home, tmp_path / "here"))
        for folder, kind in ((new, made), (old, there), (here, there)):
            folder.mkdir(parents=True)
            (folder / "first").write_text(folder.name, encoding="utf-8")
            if kind == "a-file":
                (folder / "x").write_text("x", encoding="utf-8")
            elif kind == "a-link":
                (folder / "x").symlink_to("/")
            else:
                (folder / "x").mkdir()
                (folder / "x" / "inner").write_text("inner", encoding="utf-8")
        (new / "first").write_text("changed", encoding="utf-8")
        before = describe(old), describe(here)
        with pytest.raises(primepods.TransferError, match="folder"):
            await remote.upload(new, str(old))
        await remote.upload(new, "fresh")
        with pytest.raises(primepods.TransferError, match="Nothing was changed"):
            await remote.download("fresh", here)
        await remote.run("rm -r fresh")
        assert (describe(old), describe(here)) == before


async def test_what_is_not_there_is_told(emulated: Pod, tmp_path: Path) -> None:
    """Here, before anything is sent; on the pod, with its words; nothing is made."""
    nowhere = emulated.remote(ssh_command="no-such-program")
    with pytest.raises(FileNotFoundError):
        await nowhere.upload(tmp_path / "none", "x")
    with pytest.raises(primepods.TransferError, match="/dev/null is neither a file nor a folder"):
        await nowhere.upload("/dev/null", "x")
    for copy in (nowhere.upload(tmp_path, ""), nowhere.download("", tmp_path)):
        with pytest.raises(ValueError, match="remote must be a path on the pod"):
            await copy
    for copy in (nowhere.upload("", "x"), nowhere.download("x", "")):
        with pytest.raises(ValueError, match="local must be a path"):
            await copy
    with pytest.raises(primepods.TransferError, match="none is not a file or folder"):
        await emulated.remote().download("none", tmp_path / "x")
    (emulated.home / "file").write_text("", encoding="utf-8")
    with pytest.raises(primepods.TransferError, match=r"Message of the pod: .*file"):
        await emulated.remote().upload(tmp_path, "file/folder")
    assert not (tmp_path / "x").exists()


async def test_sockets_and_pipes_are_left_out(emulated: Pod, tmp_path: Path) -> None:
    """They are no data; all else arrives."""
    folder = tmp_path / "t"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "file").write_text("x", encoding="utf-8")
    here = Path.cwd()
    os.chdir(folder)  # the address of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        os.chdir(here)
        await emulated.remote().upload(folder, "t")
    assert [path.name for path in (emulated.home / "t").iterdir()] == ["file"]


async def test_an_unreadable_file_spoils_an_upload_as_a_whole(emulated: Pod, tmp_path: Path) -> None:
    """Nothing is left on the pod: neither the target nor a hidden folder."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_text("a", encoding="utf-8")
    (tmp_path / "t" / "b").write_text("b", encoding="utf-8")
    (tmp_path / "t" / "b").chmod(0)
    if os.access(tmp_path / "t" / "b", os.R_OK):
        pytest.skip("the superuser can read all files")
    with pytest.raises(PermissionError):
        await emulated.remote().upload(tmp_path / "t", "t")
    assert list(emulated.home.iterdir()) == []


async def test_excluded_files_are_not_uploaded(emulated: Pod, tmp_path: Path) -> None:
    """A name matches anywhere, a path from the folder on or at its end; what is in a folder goes with it."""
    for name in (
        ".git/config",
        "src/a.py",
        "src/a.pyc",
        "src/build/x",
        "build/y",
        "docs/build",
        "data/1/raw/z",
        "a&",
        "xB",
    ):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_text("", encoding="utf-8")
    exclude = [".git", "*.py[co]", "/build", "build/", "data/**/raw", "a[b&&c]", "x[!-a]"]
    await emulated.remote().upload(tmp_path / "t", "t", exclude=exclude)
    found = {path.relative_to(emulated.home / "t").as_posix() for path in (emulated.home / "t").rglob("*")}
    assert found == {"src", "src/a.py", "docs", "docs/build", "data", "data/1"}


async def test_one_name_of_a_file_may_be_excluded(emulated: Pod, tmp_path: Path) -> None:
    """Its other names are sent."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_text("x", encoding="utf-8")
    os.link(tmp_path / "t" / "a", tmp_path / "t" / "b")
    await emulated.remote().upload(tmp_path / "t", "t", exclude=["a"])
    assert [path.name for path in (emulated.home / "t").iterdir()] == ["b"]


async def test_a_link_gives_a_file_its_name(emulated: Pod, tmp_path: Path) -> None:
    """The name on the other side is the one that was asked for, both ways."""
    (tmp_path / "ckpt-17.pt").write_text("x", encoding="utf-8")
    (tmp_path / "latest.pt").symlink_to("ckpt-17.pt")
    await emulated.remote().upload(tmp_path / "latest.pt", "models/")
    assert [path.name for path in (emulated.home / "models").iterdir()] == ["latest.pt"]
    (emulated.home / "newest.pt").symlink_to("models/latest.pt")
    await emulated.remote().download("newest.pt", f"{tmp_path}/back/")
    assert (tmp_path / "back" / "newest.pt").read_text(encoding="utf-8") == "x"
    assert not (tmp_path / "back" / "newest.pt").is_symlink()


@pytest.mark.slow
async def test_a_file_that_is_replaced_or_shrinks_is_sent_as_one_file(emulated: Pod, tmp_path: Path) -> None:
    """The one that was opened, with its own size; one that ends early is an error."""
    small, big = tmp_path / "small", tmp_path / "big"
    small.write_bytes(b"small")
    with big.open("wb") as file:
        file.truncate(200_000_000)
    slow = emulated.remote(ssh_command=slow_ssh(emulated))
    await slow.upload(big, "replaced", on_progress=lambda _: small.exists() and small.rename(big))
    assert (emulated.home / "replaced").stat().st_size == 200_000_000
    with big.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(primepods.TransferError, match="became shorter"):
        await slow.upload(big, "shorter", on_progress=lambda _: os.truncate(big, 5))
    with pytest.raises(primepods.TransferError, match=r"The size of .* is unknown"):
        await emulated.remote().upload("/proc/version", "version")
    assert [path.name for path in emulated.home.iterdir()] == ["replaced"]


def test_a_folder_that_becomes_a_file_is_told(tmp_path: Path) -> None:
    """Also one of which all but itself has been sent."""
    folder = tmp_path / "t" / "folder"
    folder.mkdir(parents=True)
    (folder / "big").write_bytes(bytes(100_000))

    class Stream(io.BytesIO):
        def write(self, data: Any, /) -> int:
            if folder.is_dir():
                shutil.rmtree(folder)
                folder.write_text("x", encoding="utf-8")
            return super().write(data)

    with pytest.raises(primepods.TransferError, match="folder was replaced"):
        pack(folder.parent, Exclusion([]), Progress(), Stream())


@pytest.mark.parametrize(
    ("pattern", "path", "is_matched"),
    [
        ("x[ -~]y", "x/y", False),
        ("x[!a]y", "x/y", False),
        ("x[a-c]", "xb", True),
        ("x[!a-c]", "xb", False),
        ("x[^a]", "xb", True),
        ("x[^a]", "xa", False),
        ("x[+--]", "x,", True),
        ("x[&&~~]", "x&", True),
        ("x[-a]", "x-", True),
        ("x**/y", "xy", False),
        ("x**/y", "xa/b/y", True),
        ("x/**/y", "x/y", True),
    ],
)
def test_wildcards_match_as_for_rsync(pattern: str, path: str, *, is_matched: bool) -> None:
    """A set matches no slash; `^` negates as `!` does; in a set nothing else is special but ranges."""
    assert Exclusion([pattern]).matches(path, is_folder=False) is is_matched


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (".git", "exclude must be"),
        ([""], "exclude"),
        (["/"], "write it like"),
        (["./build"], "write it like"),
        (["[b-a]"], "write it like"),
        (["[[:digit:]]"], "write it as a set"),
        (["[![:digit:]]"], "write it as a set"),
    ],
)
async def test_wrong_patterns_are_rejected(tmp_path: Path, emulated: Pod, exclude: Any, message: str) -> None:
    """Before a login."""
    with pytest.raises((TypeError, ValueError), match=message):
        await emulated.remote(ssh_command="no-such-program").upload(tmp_path, "t", exclude=exclude)


@pytest.mark.slow
async def test_progress_is_told_while_it_goes_on(emulated: Pod, tmp_path: Path) -> None:
    """A few times a second, and at the end, with the bytes so far; what the function raises ends the copy."""
    (tmp_path / "big").write_bytes(b"x" * 30_000_000)
    (tmp_path / "small").write_bytes(b"x" * 30)
    told: list[int] = []
    await emulated.remote().upload(tmp_path / "small", "small", on_progress=told.append)
    await emulated.remote().download("small", tmp_path / "small", on_progress=told.append)
    assert told.count(30) >= 2
    told.clear()

    async def slowly(done: int) -> None:
        await anyio.lowlevel.checkpoint()
        told.append(done)

    slow = emulated.remote(ssh_command=slow_ssh(emulated))
    await slow.upload(tmp_path / "big", "big", on_progress=slowly)
    await slow.download("big", tmp_path / "again", on_progress=told.append)
    assert (tmp_path / "again").read_bytes() == b"x" * 30_000_000
    assert len(told) >= 2
    assert all(0 <= done <= 30_000_000 for done in told)

    def refuse(done: int) -> None:
        raise LookupError(done)

    with pytest.raises(LookupError):
        await slow.upload(tmp_path / "big", "other", on_progress=refuse)
    await eventually(lambda: {path.name for path in emulated.home.iterdir()} == {"big", "small"})


def slow_ssh(pod: Pod) -> str:
    """The program that logs in, on a slow line."""
    slowly = "(for n in 1 2 3 4 5; do head -c 5000000; sleep 0.2; done; cat)"
    script = f'{slowly} | {pod.ssh["ssh_command"]} "$@" | {slowly}'
    return f"sh -c {shlex.quote(script)} ssh"
