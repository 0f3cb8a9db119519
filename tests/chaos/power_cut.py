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

_CALLS = "openat,mkdir,rename,unlink,unlinkat,rmdir,write,pwrite64,fsync,fdatasync,ftruncate,sendto"
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*?),? *<unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)\) += (-?\d+)")
_WHOLE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HANDLE = re.compile(r"^(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_SYNCS = ("fsync", "fdatasync")


@attrs.frozen
class Call:
    """The beginning or the end of a system call."""

    thread: str
    name: str
    arguments: str
    result: int | None  #: None at its beginning


@attrs.define(eq=False)
class Node:
    """A file or a directory: what is on the disk for certain, and the later changes."""

    is_directory: bool
    content: bytearray = attrs.field(factory=bytearray)
    writes: list[tuple[int, bytes | None]] = attrs.field(factory=list)
    names: dict[str, Node] = attrs.field(factory=dict)
    renames: list[tuple[str, Node | None]] = attrs.field(factory=list)
    end: int = 0
    certain: int = 0  #: the number of changes that are certain

    def write(self, offset: int, data: bytes | None) -> None:
        """Write data at an offset; None cuts the file there."""
        self.writes.append((offset, data))
        self.end = offset if data is None else max(self.end, offset + len(data))

    @property
    def changed(self) -> int:
        """The number of all changes."""
        return self.certain + len(self.writes) + len(self.renames)

    def sync(self, changed: int) -> None:
        """Make the first changes certain: those that had been made when the call began."""
        count = max(0, changed - self.certain)
        self.content = _written(self.content, self.writes[:count])
        self.names = _renamed(self.names, self.renames[:count])
        del self.writes[:count], self.renames[:count]
        self.certain += count

    def restore(self, path: Path, kept: Callable[[], bool]) -> None:
        """Make what a power cut leaves; ``kept`` decides about each change that is not certain."""
        if not self.is_directory:
            path.write_bytes(_written(self.content, [write for write in self.writes if kept()]))
            return
        path.mkdir()
        for name, node in _renamed(self.names, [rename for rename in self.renames if kept()]).items():
            # SQLite makes the index of its log anew.
            if not name.endswith("-shm"):
                node.restore(path / name, kept)


def _written(content: bytearray, writes: list[tuple[int, bytes | None]]) -> bytearray:
    content = bytearray(content)
    for offset, data in writes:
        content.extend(bytes(max(0, offset - len(content))))
        content[offset:] = b"" if data is None else data + content[offset + len(data) :]
    return content


def _renamed(names: dict[str, Node], renames: list[tuple[str, Node | None]]) -> dict[str, Node]:
    names = dict(names)
    for name, node in renames:
        names.pop(name, None)
        if node:
            names[name] = node
    return names


def can_record() -> bool:
    """Whether strace is installed, and may be used."""
    if sys.platform != "linux" or not (strace := shutil.which("strace")):
        return False
    return subprocess.run([strace, "-o", os.devnull, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def _text(encoded: str) -> str:
    return bytes.fromhex(encoded.replace("\\x", "")).decode("latin-1")


def record(arguments: list[str], trace: Path, cwd: Path, drive: Callable[[], object]) -> list[Call]:
    """Run a Python program, which ends when its input does, and something meanwhile; returns all its system calls."""
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "10000000", "-e", f"trace={_CALLS}"]
    command = [*strace, "-o", str(trace), sys.executable, *arguments]
    with subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE) as process:
        drive()
    assert process.returncode == 0
    return list(_parse(trace.read_text()))


def _parse(trace: str) -> Iterator[Call]:
    begun: dict[str, tuple[str, str]] = {}
    for line in trace.splitlines():
        if match := _BEGUN.match(line):
            thread, name, arguments = match.groups()
            begun[thread] = name, arguments
            yield Call(thread, name, arguments, None)
        elif match := _RESUMED.match(line):
            thread, rest, result = match.groups()
            name, arguments = begun.pop(thread)
            yield Call(thread, name, arguments + rest, int(result))
        elif match := _WHOLE.match(line):
            thread, name, arguments, result = match.groups()
            yield Call(thread, name, arguments, None)
            yield Call(thread, name, arguments, int(result))


def replay(calls: list[Call], top: Path) -> Iterator[tuple[Node, list[bytes]]]:
    """Yield after each call the disk below a directory, and what was sent until then."""
    disk = Node(is_directory=True)
    live = {str(top): disk}
    sent: list[bytes] = []
    syncing: dict[str, tuple[Node, int]] = {}

    for call in calls:
        texts = [_text(text) for text in _TEXT.findall(call.arguments)]
        handle = _HANDLE.match(call.arguments)
        path = _text(handle[1]) if handle else texts[0] if texts else ""
        if call.name in ("openat", "unlinkat"):
            path = str(Path(path) / texts[-1])
        if call.result is None:
            # What is being sent counts as received, and what is being synced as lost.
            if call.name == "sendto":
                sent.append(texts[0].encode("latin-1"))
            elif call.name in _SYNCS and path in live:
                syncing[call.thread] = live[path], live[path].changed
            else:
                continue
        elif call.result < 0:
            continue
        elif call.name in _SYNCS:
            if call.thread in syncing:
                node, changed = syncing.pop(call.thread)
                node.sync(changed)
        elif not _change(live, call, path, texts):
            continue
        yield disk, sent


def _change(live: dict[str, Node], call: Call, path: str, texts: list[str]) -> bool:
    """Change the disk; False for a call that does not."""

    def link(path: str, node: Node | None) -> None:
        folder, _, name = path.rpartition("/")
        live[folder].renames.append((name, node))

    if call.name in ("openat", "mkdir"):
        made = call.name == "mkdir" or "O_CREAT" in call.arguments
        if not made or path in live or path.rpartition("/")[0] not in live:
            return False
        live[path] = Node(is_directory=call.name == "mkdir")
        link(path, live[path])
    elif path not in live:
        return False
    elif call.name == "rename":
        link(path, None)
        link(texts[1], node := live.pop(path))
        live[texts[1]] = node
    elif call.name in ("unlink", "unlinkat", "rmdir"):
        link(path, None)
        del live[path]
    elif call.name == "ftruncate":
        live[path].write(int(call.arguments.rpartition(", ")[2]), None)
    else:
        offset = live[path].end if call.name == "write" else int(call.arguments.rpartition(", ")[2])
        live[path].write(offset, texts[-1].encode("latin-1"))
    return True


def none() -> bool:
    """Keep nothing that is not certain."""
    return False


def some(chance: random.Random) -> Callable[[], bool]:
    """Keep a random part of what is not certain."""
    share = chance.random()
    return lambda: chance.random() < share
