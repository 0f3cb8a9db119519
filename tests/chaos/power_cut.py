"""Rebuilds what a disk may have after a power cut, at any point of a program's recorded system calls.

A name is on the disk for certain when its directory has been synced, content when its file has been. All later changes
may be there or not, independently of each other.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

_CALLS = "openat,mkdir,rename,unlink,rmdir,write,pwrite64,fsync,fdatasync,ftruncate"
_LINE = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HANDLE = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")


@attrs.define(eq=False)
class Node:
    """A file or a directory: what is on the disk for certain, and the later changes."""

    is_directory: bool
    content: bytearray = attrs.field(factory=bytearray)
    writes: list[tuple[int, bytes | None]] = attrs.field(factory=list)
    names: dict[str, Node] = attrs.field(factory=dict)
    renames: list[tuple[str, Node | None]] = attrs.field(factory=list)
    end: int = 0

    def write(self, offset: int, data: bytes | None) -> None:
        """Write data at an offset; None cuts the file there."""
        self.writes.append((offset, data))
        self.end = offset if data is None else max(self.end, offset + len(data))

    def sync(self) -> None:
        """Make all changes certain."""
        self.content = self.read(lambda: True)
        self.names = self.list(lambda: True)
        self.writes, self.renames = [], []

    def read(self, kept: Callable[[], bool]) -> bytearray:
        content = bytearray(self.content)
        for offset, data in self.writes:
            if kept():
                content.extend(bytes(max(0, offset - len(content))))
                content[offset:] = b"" if data is None else data + content[offset + len(data) :]
        return content

    def list(self, kept: Callable[[], bool]) -> dict[str, Node]:
        names = dict(self.names)
        for name, node in self.renames:
            if kept():
                names.pop(name, None)
                if node:
                    names[name] = node
        return names

    def restore(self, path: Path, kept: Callable[[], bool]) -> None:
        """Make what a power cut leaves; ``kept`` decides about each change that is not certain."""
        if not self.is_directory:
            path.write_bytes(self.read(kept))
            return
        path.mkdir()
        for name, node in self.list(kept).items():
            # SQLite makes the index of its log anew.
            if not name.endswith("-shm"):
                node.restore(path / name, kept)


def can_record() -> bool:
    """Whether strace is installed, and may be used."""
    if sys.platform != "linux" or not (strace := shutil.which("strace")):
        return False
    return subprocess.run([strace, "-o", os.devnull, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def _text(encoded: str) -> str:
    return bytes.fromhex(encoded.replace("\\x", "")).decode("latin-1")


def record(arguments: list[str], trace: Path, cwd: Path) -> list[tuple[str, str, str]]:
    """Run a Python program of one thread; returns its system calls: name, arguments and result."""
    strace = ["strace", "-qq", "-y", "-xx", "-s", "10000000", "-e", f"trace={_CALLS}", "-o", str(trace)]
    subprocess.run([*strace, sys.executable, *arguments], cwd=cwd, check=True)
    found = (_LINE.match(line) for line in trace.read_text().splitlines())
    return [(call[1], call[2], call[3]) for call in found if call and not call[3].startswith("-")]


def replay(calls: list[tuple[str, str, str]], top: Path) -> Iterator[tuple[Node, bytes]]:
    """Yield, after each call that changes anything below a directory, the disk, and what was printed until then."""
    disk = Node(is_directory=True)
    live = {str(top): disk}
    printed = b""

    def change(path: str, node: Node | None) -> None:
        folder, _, name = path.rpartition("/")
        live[folder].renames.append((name, node))

    for name, arguments, _result in calls:
        texts = [_text(text) for text in _TEXT.findall(arguments)]
        handle = _HANDLE.match(arguments)
        path = _text(handle[1]) if handle else texts[0] if texts else ""
        if name == "write" and arguments.startswith("1<"):
            printed += texts[0].encode("latin-1")
        elif name in ("openat", "mkdir"):
            path = texts[-1]
            is_made = name == "mkdir" or "O_CREAT" in arguments
            if not is_made or path in live or not path.startswith(f"{top}/"):
                continue
            live[path] = Node(is_directory=name == "mkdir")
            change(path, live[path])
        elif path not in live:
            continue
        elif name == "rename":
            change(path, None)
            change(texts[1], node := live.pop(path))
            live[texts[1]] = node
        elif name in ("unlink", "rmdir"):
            change(path, None)
            del live[path]
        else:
            _alter(live[path], name, arguments.rpartition(", ")[2], texts)
        yield disk, printed


def _alter(node: Node, name: str, last: str, texts: list[str]) -> None:
    if name in ("fsync", "fdatasync"):
        node.sync()
    elif name == "ftruncate":
        node.write(int(last), None)
    else:
        node.write(node.end if name == "write" else int(last), texts[-1].encode("latin-1"))


def none() -> bool:
    """Keep nothing that is not certain."""
    return False


def some(chance: random.Random) -> Callable[[], bool]:
    """Keep a random part of what is not certain."""
    share = chance.random()
    return lambda: chance.random() < share
