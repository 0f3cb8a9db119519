"""The beginning and the end of an entry-point's output are kept, within the limit."""

import os
import sys
from pathlib import Path

import pytest

from pacifica_notifications_consumer.engines.output import _BLOCK, Output

MIB = 1 << 20


def write(output: Output, *pieces: bytes) -> None:
    with output.open() as file:
        for piece in pieces:
            file.write(piece)


def test_short_output_is_kept_whole(tmp_path: Path) -> None:
    """Output within the limit is kept byte for byte, and finish() returns its last lines."""
    output = Output(tmp_path / "o", MIB)
    lines = b"".join(b"line %d\n" % number for number in range(100))
    write(output, lines, b"\xff\n")
    output.trim()
    assert output.finish().splitlines() == [*(f"line {number}" for number in range(81, 100)), "\ufffd"]
    assert (tmp_path / "o").read_bytes() == lines + b"\xff\n"


def test_no_output(tmp_path: Path) -> None:
    """An entry-point that printed nothing has no last lines."""
    assert Output(tmp_path / "o", MIB).finish() == ""


def test_middle_is_cut_out(tmp_path: Path) -> None:
    """Of a long output the first and the last half of the limit stay, and a note says how much is missing."""
    output = Output(tmp_path / "o", 2000)
    body = b"a" * 1000 + b"b" * 50_000 + b"c" * 1000
    write(output, body)
    output.finish()
    head, note, tail = (tmp_path / "o").read_bytes().split(b"\n")
    assert (head, tail) == (b"a" * 1000, b"c" * 1000)
    assert note.decode() == "[… 50000 bytes are left out here …]"


@pytest.mark.parametrize(("more", "whole"), [(-1, True), (0, True), (_BLOCK, True), (_BLOCK + 1, False)])
def test_as_much_as_the_limit(tmp_path: Path, more: int, whole: bool) -> None:
    """Output of up to one block beyond the limit is kept whole; of more the middle is cut out."""
    output = Output(tmp_path / "o", 2000)
    write(output, b"x" * (2000 + more))
    output.finish()
    assert ((tmp_path / "o").read_bytes() == b"x" * (2000 + more)) == whole


def test_no_limit(tmp_path: Path) -> None:
    """Without a limit all output is kept."""
    output = Output(tmp_path / "o", None)
    write(output, b"x" * MIB)
    output.trim()
    output.finish()
    assert (tmp_path / "o").stat().st_size == MIB


@pytest.mark.skipif(sys.platform != "linux", reason="holes are made on Linux only")
def test_disk_is_not_filled_by_one_that_still_runs(tmp_path: Path) -> None:
    """While a process writes, the file takes up little disk space, and its beginning and end are kept."""
    output = Output(tmp_path / "o", MIB)
    with output.open() as file:
        file.write(b"a" * MIB)
        for _ in range(64):
            file.write(b"b" * MIB)
            file.flush()
            output.trim()
        file.write(b"c" * MIB)
    if os.statvfs(tmp_path).f_bsize <= 65536:
        assert (tmp_path / "o").stat().st_blocks * 512 < 6 * MIB
    output.trim()
    output.finish()
    kept = (tmp_path / "o").read_bytes()
    assert (kept[: MIB // 2], kept[-MIB // 2 :]) == (b"a" * (MIB // 2), b"c" * (MIB // 2))
    assert len(kept) < MIB + 100


def test_second_attempt_is_added(tmp_path: Path) -> None:
    """The output of a later attempt is appended to the earlier ones, within the same limit."""
    for number in range(5):
        output = Output(tmp_path / "o", 20_000)
        write(output, b"attempt %d\n" % number, b"x" * 10_000, b"\nend %d\n" % number)
        tail = output.finish()
    assert tail.endswith("end 4")
    kept = (tmp_path / "o").read_bytes()
    assert kept.startswith(b"attempt 0\n")
    assert len(kept) < 25_000
