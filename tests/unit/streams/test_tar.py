"""The fast reader and writer of tars agree with the standard tarfile, byte for byte."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_notifications_consumer.errors import BrokenOff, DownloadError, UploadError
from pacifica_notifications_consumer.streams import tar_stream
from pacifica_notifications_consumer.streams.hashing import buffers
from pacifica_notifications_consumer.streams.tar_stream import TarStream
from pacifica_notifications_consumer.transfer import upload_tar
from pacifica_notifications_consumer.transfer.upload_tar import UploadTar
from pacifica_notifications_consumer.transfer.uploads import UploadFile

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300)
NUMBERS = st.one_of(st.integers(0, 2**40), st.integers(0, 4096))


def reading(data: bytes) -> Callable[[memoryview], int]:
    return io.BytesIO(data).readinto


@given(name=NAMES, size=NUMBERS, mtime=st.integers(-(2**33), 2**35))
def test_header_is_that_of_tarfile(name: str, size: int, mtime: int) -> None:
    """A header of the fast writer has the same bytes as that of tarfile, and the predicted length."""
    expected = upload_tar._tarfile_header(f"data/{name}", size, mtime)
    assert upload_tar._header(f"data/{name}", size, mtime) == expected
    file = UploadFile(name, size, mtime, 0)
    assert upload_tar._header_length(file) == len(expected)


@given(
    members=st.lists(
        st.tuples(NAMES, st.integers(0, 3000), st.integers(0, 2**34), st.sampled_from([b"0", b"1", b"2", b"5", b"\0"])),
        max_size=5,
    ),
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_members_are_those_of_tarfile(members: list[tuple[str, int, int, bytes]], form: int) -> None:
    """The fast reader finds the same members as tarfile: names, types, sizes, times and contents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for name, size, mtime, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.linkname = kind, mtime, "target"
            # In the oldest format a slash at the end of the name makes a directory.
            info.size = size if kind == b"0" or (kind == b"\0" and not name.endswith("/")) else 0
            tar.addfile(info, io.BytesIO(b"x" * info.size))

    def facts(info: tarfile.TarInfo) -> tuple[object, ...]:
        return info.name, info.isreg(), info.isdir(), info.size, info.mtime

    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        expected = [(*facts(info), b"x" * info.size) for info in tar]
    stream = TarStream(reading(out.getvalue()))
    found = [(*facts(info), b"".join(map(bytes, stream.body(info.size)))) for info in stream.members()]
    assert found == expected


@given(data=st.binary(max_size=2000), place=st.integers(0, 511))
def test_noise(data: bytes, place: int) -> None:
    """A malformed tar is a BrokenOff, wherever the error is."""
    header = bytearray(upload_tar._header("data/a", 5, 0))
    header[place] ^= 0x41
    for noise in (data, bytes(header) + data):
        stream = TarStream(reading(noise))
        with pytest.raises(BrokenOff):
            for info in stream.members():
                for _ in stream.body(info.size):
                    pass


@pytest.mark.parametrize("length", [1, 157, 256, 345, 511])
def test_header_that_breaks_off(length: int) -> None:
    """A tar that ends within a header is a BrokenOff."""
    with pytest.raises(BrokenOff):
        list(TarStream(reading(upload_tar._header("data/a", 5, 0)[:length])).members())


def test_header_that_is_too_long() -> None:
    """A name of gigabytes is not read into memory."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 2**34
    with pytest.raises(DownloadError, match="a header of the tar has more than 16384 bytes"):
        list(TarStream(reading(info.tobuf(tarfile.GNU_FORMAT) + bytes(2 << 20))).members())


@pytest.mark.parametrize(("most", "fits"), [(2049, True), (2048, True), (2047, False)])
def test_longest_header(most: int, fits: bool) -> None:
    """A long name is read up to the limit; above it, the error names the limit."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        # With the NUL at its end the name takes two blocks, between one that announces it and the file's own.
        tar.addfile(tarfile.TarInfo("d/" + "n" * 1021))
    stream = TarStream(reading(out.getvalue()), most)
    if fits:
        assert [member.name for member in stream.members()] == ["d/" + "n" * 1021]
    else:
        with pytest.raises(DownloadError, match="has more than 2047 bytes"):
            list(stream.members())


@pytest.mark.parametrize("extensions", [1, 20])
def test_header_in_many_pieces(extensions: int) -> None:
    """The limit applies to all extensions of a header together, and anew to each header."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 600
    extension = info.tobuf(tarfile.GNU_FORMAT) + b"n" * 600 + bytes(424)
    members = (extension * extensions + tarfile.TarInfo("n").tobuf(tarfile.GNU_FORMAT)) * 5 + bytes(1024)
    stream = TarStream(reading(members), 4096)
    if extensions == 1:
        assert len(list(stream.members())) == 5
    else:
        with pytest.raises(DownloadError, match="has more than 4096 bytes"):
            list(stream.members())


def test_buffers_are_reused_after_three_others() -> None:
    """A buffer is reused only after three others, so that a thread can hash it meanwhile."""
    ring = buffers()
    seen = [id(next(ring)) for _ in range(8)]
    assert len(set(seen[:4])) == 4
    assert seen[:4] == seen[4:]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, (1 << 20) - 600, 1 << 20, (1 << 20) + 1, (5 << 20) + 7])
def test_sizes(tmp_path: Path, size: int) -> None:
    """Files of all sizes around those of blocks and buffers have the same content in the tar as on the disk."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(os.urandom(size))
    tar = UploadTar(tmp_path, [])
    data = b"".join(map(bytes, tar))
    assert len(data) == len(tar)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for name in ("a", "b"):
            member = archive.extractfile(f"data/{name}")
            assert member is not None
            assert member.read() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("size", [10, 5 << 20])
@pytest.mark.parametrize("change", ["append", "cut", "replace", "touch", "remove", "pipe"])
def test_file_that_changes(tmp_path: Path, size: int, change: str) -> None:
    """A file that changes after the length has been computed is an error that names it."""
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(size))
    tar = UploadTar(tmp_path, [])
    if change == "append":
        with path.open("ab") as file:
            file.write(b"x")
    elif change == "cut":
        os.truncate(path, size - 1)
    elif change == "touch":
        os.utime(path, (1, 1))
    else:
        path.rename(tmp_path / "moved")
        if change == "replace":
            path.write_bytes(bytes(size))
        elif change == "pipe":
            os.mkfifo(path)
    with pytest.raises(UploadError, match=r"a\.bin (changed during the upload|: No such file)|cannot read .*a\.bin"):
        for _ in tar:
            pass


def test_headers_that_drip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two files, headers may take ten minutes, by whose clock the files do not count."""
    now = 0.0
    monkeypatch.setattr(tar_stream, "time", SimpleNamespace(monotonic=lambda: now), raising=False)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(20):
            info = tarfile.TarInfo(f"x/{number}")
            if number == 2:
                info.size = 200_000
            else:
                info.type, info.pax_headers = tarfile.DIRTYPE, {"comment": "x" * 10_000}
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    source = io.BytesIO(out.getvalue())

    def drip(buffer: memoryview) -> int:
        nonlocal now
        now += 10
        return source.readinto(buffer[:1000])

    stream, seen = TarStream(drip), []
    with pytest.raises(BrokenOff, match="the tar went on for 600 seconds without a file"):
        for member in stream.members():
            seen.append(member.name)
            if member.isreg():
                assert sum(map(len, stream.body(member.size))) == member.size
    assert seen == [f"x/{number}" for number in range(8)]


def test_what_holds_for_all_members() -> None:
    """Global headers are kept for the next member only, however many there are."""

    def members() -> Iterator[bytes]:
        for number in range(1000):
            record = b"%04d KEY%d=%s\n" % (0, number, b"v" * 4000)
            record = b"%04d" % len(record) + record[4:]
            info = tarfile.TarInfo("x")
            info.type, info.size = tarfile.XGLTYPE, len(record)
            yield info.tobuf(tarfile.GNU_FORMAT) + record + bytes(-len(record) % 512)
            yield tarfile.TarInfo("d").tobuf(tarfile.GNU_FORMAT)
        yield bytes(1024)

    pieces, rest = members(), bytearray()

    def readinto(buffer: memoryview) -> int:
        rest.extend(next(pieces, b""))
        size = min(len(rest), len(buffer))
        buffer[:size] = rest[:size]
        del rest[:size]
        return size

    tracemalloc.start()
    try:
        assert sum(1 for _ in TarStream(readinto).members()) == 1000
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()
