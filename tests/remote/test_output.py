"""Marks, lines and tails, in whatever pieces they come."""

import os
import select
from contextlib import suppress
from itertools import pairwise

import hypothesis
import hypothesis.strategies as st

from primepods.remote import BackgroundWriter
from primepods.remote._output import Lines, MarkedOutput, Tail

MARK = "primepods-0123"
CUTS = st.lists(st.integers(0, 200))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data, cut at these places."""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


@hypothesis.given(st.binary(max_size=60) | st.just(b"primepods-0123 exi"), CUTS, st.integers(0, 255))
def test_the_output_between_the_marks_is_exact(output: bytes, cuts: list[int], code: int) -> None:
    """What comes before and after is not the command's; parts of a mark are."""
    marked = MarkedOutput(MARK)
    data = f"banner\n{MARK} ready\n".encode() + output + f"{MARK} exit {code}\nleft over".encode()
    assert b"".join(marked.feed(piece) for piece in pieces(data, cuts)) == output
    assert (marked.is_ready, marked.exit_code, marked.end()) == (True, code, b"")


@hypothesis.given(st.binary(max_size=60), CUTS)
def test_without_the_last_mark_all_of_it_is_output(output: bytes, cuts: list[int]) -> None:
    """A lost connection loses nothing that has come; what was held back comes at the end."""
    marked = MarkedOutput(MARK)
    data = f"{MARK} ready\n".encode() + output + MARK.encode()
    came = b"".join(marked.feed(piece) for piece in pieces(data, cuts))
    assert came + marked.end() == output + MARK.encode()
    assert marked.exit_code is None


def test_output_without_a_mark_is_of_the_login_and_bounded() -> None:
    """What ssh said, at most 16 KiB of its end."""
    marked = MarkedOutput(MARK)
    for number in range(10_000):
        assert marked.feed(b"%d lines\n" % number) == b""
    assert marked.login_output.endswith("9999 lines\n")
    assert len(marked.login_output) == 16_384


@hypothesis.example(b"\r\n", [1])
@hypothesis.given(st.text("ab\r\nü", max_size=60).map(str.encode) | st.binary(max_size=60), CUTS)
def test_lines_and_offsets_do_not_depend_on_the_pieces(data: bytes, cuts: list[int]) -> None:
    """All of the text comes, and a reading that begins at an offset has the lines that follow it."""

    def split(position: int, cuts: list[int]) -> list[tuple[str, int]]:
        splitter = Lines(position)
        lines = [line for piece in pieces(data[position:], cuts) for line in splitter.feed(piece)]
        return [*lines, *splitter.end()]

    whole = split(0, [])
    assert split(0, cuts) == whole
    text = data.decode(errors="replace")
    assert "".join(line for line, _ in whole) == text.replace("\r", "").replace("\n", "")
    for number, (_, position) in enumerate(whole):
        assert split(position, cuts) == whole[number + 1 :]


def test_a_descriptor_that_does_not_block_gets_all_of_it() -> None:
    """A process that shares it may have set it so; the writer waits for the reader, also before a flush."""
    source, target = os.pipe()
    os.set_blocking(target, False)
    errors: list[OSError | None] = []
    is_flushed_to_a_reader: list[bool] = []
    length = 1 << 20
    with suppress(BlockingIOError):
        while True:
            length += os.write(target, bytes(4096))

    def note(error: OSError | None) -> None:
        errors.append(error)
        os.close(target)

    writer = BackgroundWriter(
        target, lambda: is_flushed_to_a_reader.append(bool(select.select((), (target,), (), 0)[1]))
    )
    writer.write(bytes(1 << 20), note)
    writer.close()
    with os.fdopen(source, "rb") as reader:
        assert (len(reader.read()), errors) == (length, [None])
    assert is_flushed_to_a_reader == [True]


def test_progress_bars_give_lines() -> None:
    """Each state is one; blank lines are lines, too."""
    lines = Lines().feed(b"\r 1%\r 2%\n\n\xffend\r\n")
    assert [text for text, _ in lines] == [" 1%", " 2%", "", "\ufffdend"]


def test_long_lines_are_split_between_characters() -> None:
    """After 64 KiB, whatever they are made of."""
    for text in ("ü" * 100_000, "x" * 200_000):
        lines = Lines().feed(text.encode())
        assert text.startswith("".join(line for line, _ in lines))
        assert lines[-1][1] > 130_000
    assert len(Lines().feed(b"\x80" * 200_000)) == 3


@hypothesis.given(st.lists(st.binary(max_size=40), max_size=30))
async def test_a_tail_is_the_end(data: list[bytes]) -> None:
    """And says whether there was more."""
    tail = Tail(25)
    for piece in data:
        await tail.add(piece)
    whole = b"".join(data)
    assert tail.text() == whole[-25:].decode(errors="replace")
    assert tail.is_truncated == (len(whole) > 25)
