"""Finds the files of a consumer's directory that its code imports, or names in a string."""

from __future__ import annotations

import ast
import itertools
import posixpath
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from .archive import ENTRY_POINT, INIT_SCRIPT, PRELOAD, REQUIREMENTS
from .imports import parse

_COMMENT = re.compile(r"(^|\s)#.*")
_SEPARATORS = re.compile(r"\$\w+|[\s\"'`=:;,|&<>(){}\[\]@]+")
#: The suffixes of files, other than modules, that may name further files.
_READ = (".sh", ".R", ".pl", ".json", ".toml", ".yaml", ".yml", ".ini", ".cfg")
_MODULE = re.compile(r"\w+(\.\w+)*")
_UPWARDS = re.compile(r"^(\.{0,2}/)+")


def find_references(directory: Path, paths: Collection[str]) -> set[str]:
    """Find the files and folders that a consumer imports, opens or runs, as far as its code shows that.

    The entry-point, ``init.sh``, ``requirements.txt`` and ``preload.txt`` are read, and the modules, scripts and
    configuration files that they refer to. A path is found if it occurs in a string of a file, whole, in pieces that a
    program may join, as a word of a command, or as a pattern with ``*``; a folder only if nothing in it is found.

    Args:
        directory: The consumer's directory.
        paths: The paths below the directory that may be found, with ``/`` between names.
    """
    found, waiting = set[str](), [ENTRY_POINT, INIT_SCRIPT, REQUIREMENTS, PRELOAD]
    while waiting:
        path = waiting.pop()
        if path in found or path not in paths:
            continue
        found.add(path)
        folder = posixpath.dirname(path)
        texts = {_UPWARDS.sub("", text).rstrip("/") for text in _texts(directory / path, folder)}
        # A module in a folder of Python's path is named from there on.
        joined = ["", folder, *map(str, PurePosixPath(folder).parents)]
        for above in joined:  # which grows
            joined += {posixpath.join(above, text) for text in texts}.intersection(paths).difference(joined)
        patterns = {text for text in texts if "*" in text and re.search(r"\w", text)}
        waiting += joined + [each for text in patterns for each in paths if PurePosixPath(each).match(text)]
    return found - {str(parent) for path in found for parent in PurePosixPath(path).parents}


def _texts(path: Path, folder: str) -> Iterator[str]:
    """The paths in a file in the folder: those of modules that it imports, and all texts that may be paths."""
    words: list[str] = []
    if path.suffix == ".py" and path.is_file():
        try:
            nodes = ast.walk(parse(path))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # check reports it
        for node in nodes:
            if isinstance(node, ast.Import):
                words += (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                parents = folder.split("/") if folder else []
                package = parents[: max(0, len(parents) + 1 - node.level)] if node.level else []
                package += [node.module] if node.module else []
                words += (".".join((*package, *name)) for name in ((), *((alias.name,) for alias in node.names)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words += (node.value, *_SEPARATORS.split(node.value))
    elif path.is_file() and (path.suffix in _READ or path.name in (REQUIREMENTS, PRELOAD)):
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        words += (word for line in lines for word in _SEPARATORS.split(_COMMENT.sub("", line)))
    for word in words:
        yield word
        # Strings may be the names of modules, too, for importlib or `python -m`.
        if _MODULE.fullmatch(word):
            *packages, module = itertools.accumulate(word.split("."), "{}/{}".format)
            yield from (f"{package}/__init__.py" for package in (*packages, module))
            yield from (f"{module}.py", f"{module}.pyc")
