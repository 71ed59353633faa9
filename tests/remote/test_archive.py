"""What a hostile pod may send, and what is written of it."""

import errno
import io
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from primepods.errors import TransferError
from primepods.remote._pack import Progress
from primepods.remote._place import place
from primepods.remote._tar_reader import CutShortError
from primepods.remote._unpack import unpack_file, unpack_folder

from .conftest import immutable

Entry = tuple[str, bytes, str]


def archive(*entries: Entry, kind_of_tar: int = tarfile.GNU_FORMAT) -> bytes:
    """A stream of entries: name, kind, and the target of a link."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind_of_tar) as made:
        for name, kind, target in entries:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o6777
            content = b"evil" if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return stream.getvalue()


FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to unpack into."""
    made = tmp_path / "in"
    made.mkdir()
    return made


def unpack(data: bytes, folder: Path) -> list[str]:
    """Unpack an archive as if its folder were to be renamed to `final`."""
    return unpack_folder(io.BytesIO(data), folder, Path("final"), Progress())


@pytest.mark.parametrize(
    "entries",
    [
        [("../x", FILE, "")],
        [("/x", FILE, "")],
        [("a/../../x", FILE, "")],
        [("h", HARD, "../../etc/passwd")],
        [("h", HARD, "/etc/passwd")],
        [("h", HARD, "never sent")],
        [(".", LINK, "x")],
        [("f", FILE, ""), ("f", FILE, "")],
        [("f", FILE, ""), ("f/x", FILE, "")],
        [("d", LINK, "e"), ("e", FOLDER, ""), ("d/x", FILE, "")],
        [("x" * 300, FILE, "")],
        [("a/" * 1_000 + "x", FILE, "")],
        [("x" * 100_000, FILE, "")],
        [("x", tarfile.GNUTYPE_SPARSE, "")],
    ],
    ids=lambda entries: entries[-1][0][:10],
)
def test_a_lying_archive_is_an_error_of_ours(folder: Path, entries: list[Entry]) -> None:
    """It is a TransferError that shows no temporary path, and nothing is outside the folder."""
    with pytest.raises(TransferError) as told:
        unpack(archive(*entries), folder)
    assert str(folder) not in str(told.value)
    assert [path.name for path in folder.parent.iterdir()] == ["in"]


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
def test_what_leads_outside_is_left_out_and_told(folder: Path, entries: list[Entry]) -> None:
    """All else is there: hours of work are not lost for a link."""
    left_out = unpack(archive(*entries, ("file", FILE, "")), folder)
    made = {path.name for path in folder.rglob("*")} - {"d", "e", "l"}
    assert made == {"file"}
    assert len(left_out) == 1
    assert left_out[0].startswith(repr(entries[-1][0] if entries[-1][1] == HARD else entries[0][0]))
    for path in folder.rglob("*"):
        assert path.resolve().is_relative_to(folder)


@pytest.mark.parametrize("kind_of_tar", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_links_within_are_kept_and_modes_are_tame(folder: Path, kind_of_tar: int) -> None:
    """Also a link that goes up and down again, and long names; nothing is setuid or everybody's to write."""
    long = "/".join(["long" * 30] * 4)
    data = archive(
        ("a/b", FILE, ""),
        ("c/l", LINK, "../a/b"),
        ("dangling", LINK, "none"),
        ("h", HARD, "a/b"),
        ("c/again", HARD, "c/l"),
        (long, FILE, ""),
        ("to long", LINK, long),
        kind_of_tar=kind_of_tar,
    )
    assert unpack(data, folder) == []
    assert (folder / "c" / "again").readlink() == Path("../a/b")
    assert (folder / "c" / "l").read_text(encoding="utf-8") == "evil"
    assert (folder / "h").samefile(folder / "a" / "b")
    assert (folder / "a" / "b").stat().st_mode & 0o7777 == 0o755
    assert (folder / "dangling").is_symlink()
    assert (folder / "to long").read_text(encoding="utf-8") == "evil"


@pytest.mark.parametrize(
    "break_it",
    [
        lambda data: data[:600],
        # Between two files.
        lambda data: data[:1024],
        lambda data: data[:2048],
        lambda data: b"\1" * 512 + data,
        lambda data: data[:1024] + b"\1" * 512 + data[1024:],
        lambda data: data + b"x" * (1 << 20),
        lambda data: b"",
    ],
    ids=["cut", "cut between", "no end", "no archive", "garbage", "goes on", "empty"],
)
def test_an_archive_without_its_end_is_not_believed(folder: Path, break_it: Callable[[bytes], bytes]) -> None:
    """Wherever it ends, and also if garbage or an endless stream follows."""
    data = archive(("a", FILE, ""), ("b", FILE, ""))
    with pytest.raises(TransferError):
        unpack(break_it(data), folder)


@pytest.mark.parametrize(
    "records",
    [
        b"x",
        b"9999 path=x\n",
        b"99999999999999999999 path=x\n",
        b"8 path=\n",
        b"9 size=-1\n",
        b"13 mtime=nan\n",
        b"12 size=one\n",
    ],
)
def test_extended_headers_that_lie_are_an_error_of_ours(folder: Path, records: bytes) -> None:
    """Lengths, sizes and times that are none."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    data = header.tobuf() + records.ljust(512, b"\0") + archive(("a", FILE, ""))
    with pytest.raises(TransferError):
        unpack(data, folder)


def test_a_thousand_long_names_in_a_row_are_read(folder: Path) -> None:
    """The depth of no recursion depends on the pod."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    data = (header.tobuf() + b"y\0".ljust(512, b"\0")) * 2_000 + archive(("a", FILE, ""))
    unpack(data, folder)
    assert [path.name for path in folder.iterdir()] == ["y"]


def test_links_without_end_are_refused(folder: Path) -> None:
    """They are kept in memory until all files are written, so their length is limited."""
    long = "x" * 60_000
    with pytest.raises(TransferError, match="too many folders and links"):
        unpack(archive(*(("l", LINK, long) for _ in range(1_200))), folder)


@pytest.mark.parametrize(
    "entries",
    [[], [("f", LINK, ".git")], [("f", FOLDER, "")], [("f", HARD, "x")], [("f", FILE, ""), ("g", FILE, "")]],
    ids=["none", "link", "folder", "hard link", "two"],
)
def test_a_file_is_one_regular_file(folder: Path, entries: list[Entry]) -> None:
    """A link in its place could lead the next copy elsewhere."""
    with pytest.raises(TransferError, match="Nothing was changed"):
        unpack_file(io.BytesIO(archive(*entries)), folder / "data", Path("final"), Progress())


def test_a_stream_that_cannot_be_read_is_not_an_error_of_a_file(folder: Path) -> None:
    """It counts as cut short, and no error names a member's path."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() < tarfile.BLOCKSIZE:
                return super().read(size)
            raise OSError(errno.EIO, "gone")

    with pytest.raises(CutShortError):
        unpack_folder(Broken(archive(("a", FILE, ""))), folder, Path("final"), Progress())


def test_a_disk_that_is_full_is_told_with_the_path(folder: Path) -> None:
    """The path is that where the file was to be; here a limit on the size of files stands for a full disk."""
    member = tarfile.TarInfo("x")
    member.size = 100_000
    data = member.tobuf() + b"x" * member.size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="'final/x'"):
            unpack(data, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_merge_that_fails_halfway_changes_nothing(tmp_path: Path) -> None:
    """Files that were replaced are as before, and new ones are gone again."""
    staged, target = tmp_path / "staging" / "data", tmp_path / "target"
    for name in map(str, range(10)):
        for path in (
            target / name / "both",
            staged / name / "both",
            staged / name / "new",
            staged / f"{name}x",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(path), encoding="utf-8")
    before = contents(target)
    with immutable(target / "5" / "both"), pytest.raises(PermissionError, match="5/both"):
        place(staged, target)
    assert contents(target) == before


def test_a_file_does_not_replace_a_link_to_a_folder(tmp_path: Path) -> None:
    """It may be the only way to a disk; a link replaces one, as when a copy is repeated."""
    staged, target = tmp_path / "staging" / "data", tmp_path / "target"
    for folder in (staged, target):
        folder.mkdir(parents=True)
        (folder / "same").symlink_to(".")
    place(staged, target)
    (staged / "linked").write_text("new", encoding="utf-8")
    (target / "linked").symlink_to(tmp_path)
    with pytest.raises(TransferError, match=r"linked is a folder here.* Nothing was changed"):
        place(staged, target)
    assert (target / "linked").is_symlink()


def test_a_folder_that_cannot_take_a_copy_is_told_before_anything_is_moved(tmp_path: Path) -> None:
    """The folders that the copy would have made are gone, too."""
    staged = tmp_path / "staging" / "data"
    staged.parent.mkdir()
    staged.write_text("new", encoding="utf-8")
    with immutable(staged), pytest.raises(OSError, match="target"):
        place(staged, tmp_path / "a" / "b" / "target")
    assert not (tmp_path / "a").exists()


def contents(folder: Path) -> dict[str, str]:
    """All files below a folder."""
    return {str(path): path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()}
