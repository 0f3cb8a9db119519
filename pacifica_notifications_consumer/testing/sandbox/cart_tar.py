"""The tar of a cart: the paths of the files in it, and writing it as a stream."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import IO, Any, cast

from ...http.handler import Writer
from .store import Store
from .wire import PIECE

#: The content of each file, by the parts of its path below the tar's only top directory.
Layout = dict[tuple[str, ...], Path]


def lay_out(files: list[dict[str, Any]], store: Store) -> Layout:
    """Find and verify the content of each file of a cart; raises `ValueError` with the message of the real cartd."""
    placed: Layout = {}
    for wanted in files:
        content = store.file(wanted["id"])
        if content is None:
            message = f"Can't get file {wanted['id']}: No such file or directory"
            page = {"status": "500 Internal Server Error", "message": message}
            raise ValueError(f"Failed to stage with error: {json.dumps(json.dumps(page))}")
        _verify(content, wanted["hashtype"], wanted["hashsum"])
        parts = _inside(wanted["path"])
        # The real cartd writes such a file outside of the cart, so that the tar does not contain it.
        if parts:
            placed[parts] = content
    if clash := placed.keys() & _directories(placed):
        path = "/".join(min(clash))
        raise ValueError(f"Failed directory create with error: [Errno 17] File exists: '{path}'")
    return placed


def _verify(content: Path, hashtype: str, hashsum: str) -> None:
    try:
        with content.open("rb") as file:
            found = hashlib.file_digest(file, hashtype).hexdigest()
    except (ValueError, TypeError):
        raise ValueError(f"Failed to pull with error: unsupported hash type {hashtype}") from None
    if found != hashsum:
        raise ValueError("Failed to pull with error: File hash does not match provided hash")


def _inside(path: str) -> tuple[str, ...]:
    path.encode()  # a lone surrogate cannot be written to a tar: ValueError
    path = path.removeprefix("/")
    if path.startswith("/"):
        return ()
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                return ()
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def _directories(placed: Layout) -> set[tuple[str, ...]]:
    return {parts[:depth] for parts in placed for depth in range(1, len(parts))}


def write_tar(layout: Layout, top: str, made: float, out: Writer, store: Store) -> None:
    """Write a cart's tar: a top directory with all directories, which get the time ``made``, and files, sorted."""
    # For this mode, `tarfile` needs only the method `write`.
    with tarfile.open(fileobj=cast("IO[bytes]", out), mode="w|", bufsize=PIECE) as tar:
        for parts in sorted({(), *layout, *_directories(layout)}):
            name = "/".join((top, *parts)) if top else "/".join(parts)
            if parts in layout:
                with layout[parts].open("rb") as content:
                    info = tar.gettarinfo(arcname=name, fileobj=content)
                    info.mode, info.mtime = 0o644, int(info.mtime)
                    tar.addfile(info, content)
            else:
                info = tar.gettarinfo(store.directory, arcname=name)
                info.mode, info.mtime = 0o755, made
                tar.addfile(info)
