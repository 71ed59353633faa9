"""What a hostile pod may send, and what is written of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from primepods.errors import TransferError
from primepods.remote._archive import Progress, unpack

Entry = tuple[str, bytes, str]


def archive(*entries: Entry, finish: bool = True) -> io.BytesIO:
    """A stream of entries: name, kind, and the target of a link."""
    stream = io.BytesIO()
    made = tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115 - may stay open
    for name, kind, target in entries:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.mode = kind, target, 0o6777
        content = b"evil" if kind == tarfile.REGTYPE else b""
        member.size = len(content)
        made.addfile(member, io.BytesIO(content))
    if finish:
        made.close()
    stream.seek(0)
    return stream


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    "entries",
    [
        [("../x", FILE, "")],
        [("/x", FILE, "")],
        [("a/../../x", FILE, "")],
        [("h", HARD, "../../etc/passwd")],
        [("h", HARD, "/etc/passwd")],
    ],
)
def test_nothing_reaches_outside_the_folder(tmp_path: Path, entries: list[Entry]) -> None:
    """Names that leave it end the copy."""
    (tmp_path / "in").mkdir()
    with pytest.raises(TransferError):
        unpack(archive(*entries), tmp_path / "in", Progress())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    "entries",
    [
        [("l", LINK, "/etc")],
        [("l", LINK, "..")],
        [("d/l", LINK, "../../x")],
        [("m", LINK, "d/l/../.."), ("d/l", LINK, "..")],
        [("m", LINK, "d/e/l/../x"), ("d/e/l", LINK, "../..")],
        [("dev", tarfile.CHRTYPE, "")],
        [("pipe", tarfile.FIFOTYPE, "")],
        [("d/l", LINK, "../x"), ("l", HARD, "d/l")],
    ],
)
def test_what_leads_outside_is_left_out_and_told(tmp_path: Path, entries: list[Entry]) -> None:
    """All else is there: hours of work are not lost for a link."""
    (tmp_path / "in").mkdir()
    [told] = unpack(archive(*entries, ("file", FILE, "")), tmp_path / "in", Progress())
    made = {path.name for path in (tmp_path / "in").rglob("*")} - {"d", "e", "l"}
    assert made == {"file"}
    assert told.startswith(repr(entries[-1][0] if entries[-1][1] == HARD else entries[0][0]))
    for path in (tmp_path / "in").rglob("*"):
        assert path.resolve().is_relative_to(tmp_path / "in")


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    """A link in the place of a folder of the archive is made after all files, and fails."""
    (tmp_path / "in").mkdir()
    stream = archive(("d", LINK, "e"), ("e", tarfile.DIRTYPE, ""), ("d/x", FILE, ""))
    with pytest.raises(FileExistsError):
        unpack(stream, tmp_path / "in", Progress())
    assert list((tmp_path / "in" / "e").iterdir()) == []


def test_links_within_are_kept_and_modes_are_tame(tmp_path: Path) -> None:
    """Also a link that goes up and down again; nothing is setuid or everybody's to write."""
    stream = archive(
        ("a/b", FILE, ""),
        ("c/l", LINK, "../a/b"),
        ("dangling", LINK, "none"),
        ("h", HARD, "a/b"),
        ("c/again", HARD, "c/l"),
    )
    assert unpack(stream, tmp_path, Progress()) == []
    assert (tmp_path / "c" / "again").readlink() == Path("../a/b")
    assert (tmp_path / "c" / "l").read_text(encoding="utf-8") == "evil"
    assert (tmp_path / "h").samefile(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "dangling").is_symlink()


@pytest.mark.parametrize(
    "break_it",
    [lambda data: data[:600], lambda data: b"\1" * 512 + data],
    ids=["cut", "no archive"],
)
def test_a_broken_stream_is_told(tmp_path: Path, break_it: Callable[[bytes], bytes]) -> None:
    """A stream that ends between two files looks whole, and so the pod's exit code counts, too."""
    data = archive(("a", FILE, ""), ("b", FILE, "")).getvalue()
    with pytest.raises(tarfile.TarError):
        unpack(io.BytesIO(break_it(data)), tmp_path, Progress())
