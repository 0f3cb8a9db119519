"""Moving files: download() and upload() beside curl and tar, and beside Pacifica's own clients.

The servers are ready at once and throw away what they get, so that the clients are measured; the files are in memory
where the system has a place for that. Seconds are those of the transfer, without the start of a Python.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.measure import compare, seconds
from tests.integration.bed import PYTHON as OFFICIAL_PYTHON

_HERE = Path(__file__).parent
_CONTENDERS = _HERE / "contenders"
_MIB = 1 << 20
_MEMORY = Path("/dev/shm")  # noqa: S108  (a directory is made in it)
_ROUNDS = 5
_SERVERS = {
    "the web server of the real services": [str(OFFICIAL_PYTHON), str(_CONTENDERS / "cheroot_server.py")],
    "a server that costs next to nothing": [sys.executable, "-m", "tests.benchmarks.contenders.wire_server"],
}


def main() -> None:
    """Measure many small files and a large one, both ways, on both servers."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as directory:
        for count, size in ((20_000, 4096), (1, 512 * _MIB)):
            home = Path(directory, str(count))
            _make_files(home, count, size)
            peaks: dict[str, float] = {}
            for served_by, command in _SERVERS.items():
                with _serving([*command, str(home / "cart.tar")]) as url:
                    _measure(home, url, f"{count} x {size} B, {served_by}", count * size / _MIB, peaks)
            print(f"  peak memory: {', '.join(f'{name} {peak:.0f} MiB' for name, peak in peaks.items())}")
            shutil.rmtree(home)


def _measure(home: Path, url: str, what: str, mib: float, peaks: dict[str, float]) -> None:
    def tidy() -> None:
        """Remove what the last contender has made: each begins with as much memory that was just freed."""
        for made in ("by-shell", "in/downloads"):
            shutil.rmtree(home / made, ignore_errors=True)
        for record in (home / "out").glob("upload-*"):
            record.unlink()

    def by_shell(command: str) -> Callable[[], float]:
        def act() -> float:
            tidy()
            (home / "by-shell").mkdir()
            call = ["/bin/sh", "-c", command]
            return mib / seconds(lambda: subprocess.run(call, cwd=home, check=True, capture_output=True))

        return act

    def by_python(name: str, command: list[str], what: str, directory: str) -> Callable[[], float]:
        def act() -> float:
            tidy()
            done = subprocess.run(
                [*command, what, str(home / directory), url], check=True, capture_output=True, text=True
            )
            took, peak = map(float, done.stdout.split())
            peaks[name] = max(peak / _MIB, peaks.get(name, 0.0))
            return mib / took

        return act

    ours = [sys.executable, "-m", "tests.benchmarks.contenders.transfer_contender"]
    theirs = [str(OFFICIAL_PYTHON), str(_CONTENDERS / "official_contender.py")]
    peer = "curl | tar x"
    contenders = {
        "download(), size and hash verified": by_python("download()", ours, "download", "in"),
        "pacifica-downloader, nothing verified": by_python("pacifica-downloader", theirs, "download", "in"),
        peer: by_shell(f"curl -sf {url}/cart | tar x -C by-shell"),
    }
    compare(f"Downloading {what} (more is better)", "MiB/s", contenders, peer, rounds=_ROUNDS)
    peer = "tar c | curl -T -"
    contenders = {
        "upload(), hashed on the way": by_python("upload()", ours, "upload", "out"),
        "pacifica-uploader, from a bundle in a file": by_python("pacifica-uploader", theirs, "upload", "out"),
        peer: by_shell(f"tar c -C out uploads | curl -sf -T - {url}/up"),
    }
    compare(f"Uploading {what} (more is better)", "MiB/s", contenders, peer, rounds=_ROUNDS)


def _make_files(home: Path, count: int, size: int) -> None:
    """Make `out/uploads`, the tar of a cart with the same files, and the notification `in/notification.json` of it."""
    content = os.urandom(size)
    hashsum = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    rows = []
    (home / "in").mkdir(parents=True)
    with tarfile.open(home / "cart.tar", "w|") as tar:
        for number in range(count):
            subdir, name = f"{number // 1000:03d}", f"{number:06d}.bin"
            path = home / "out" / "uploads" / subdir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            member = tarfile.TarInfo(f"data/{subdir}/{name}")
            member.size = size
            tar.addfile(member, io.BytesIO(content))
            rows.append(
                {"destinationTable": "Files", "_id": number, "name": name, "subdir": subdir, "size": size,
                 "hashtype": "sha1", "hashsum": hashsum, "mimetype": "application/octet-stream",
                 "ctime": "2026-11-24T00:14:30", "mtime": "2026-11-24T00:14:30"}
            )  # fmt: skip
    (home / "in" / "notification.json").write_text(json.dumps({"cloudEventsVersion": "0.1", "data": rows}))


@contextlib.contextmanager
def _serving(command: list[str]) -> Iterator[str]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()
