"""The local files on which an environment depends: a cached environment is used only as long as none has changed."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from ..errors import shown
from ..system.files import digest_tree, read_regular
from .requirements import Requirements

#: Names the files of a consumer on which its environment does not depend.
IGNORE = "venv-ignore.txt"

_INDEX = re.compile(r"-i|--index-url|--extra-index-url")
#: Maximum length of a word that may have names in it, as of a path, and number of names that are looked for.
_LONGEST_WORD, _MOST_NAMES = 4096, 100_000
_EDITABLE = re.compile(r"-e|--editable")
_BEGINS = re.compile(r"^-\w|[=:@,]")
_ENDS = re.compile(r"[\[#;?]|$")


def digest_local_files(requirements: Requirements, directory: Path, *, has_script: bool) -> tuple[str, str]:
    """Hash the local files on which the environment of a consumer depends.

    A requirement that is only a name depends on none. Others, and an ``init.sh``, may use any file of the consumer, so
    all of them count, except those that its author has listed in ``venv-ignore.txt``.

    Returns:
        The digest, and why the environment must not be used again whatever the digest; empty if it may.
    """
    parts, uses_consumer, unkept, left = [], has_script, "", _MOST_NAMES
    for line in requirements.lines:
        named: set[Path] = set()
        words = () if line.is_include else (line.text.partition("--hash")[0], *line.text.split())
        for word in (word for word in words if not word.startswith("--hash=")):
            # All begins of names times all ends: an odd word may have millions.
            long = len(word) > _LONGEST_WORD
            left -= 0 if long else (len(_BEGINS.findall(word)) + 1) * len(_ENDS.findall(word))
            if long or left < 0:
                unkept = f"{shown(line.text, 60)!r} may name more files than can be looked for"
            else:
                named.update(_named(word, {directory, line.file.parent}))
        for path in sorted(named):
            if _EDITABLE.match(line.text):
                unkept = f"{line.text!r} installs from the consumer's directory, which is a new one at each start"
            elif path in directory.parents:
                unkept = f"{line.text!r} refers to a directory around the consumer's"
            elif directory in (path, *path.parents):
                uses_consumer = True
            elif not _INDEX.match(line.text):
                parts += [str(path), digest_tree(path)]
    if uses_consumer:
        parts.append(digest_tree(directory, _ignored(directory / IGNORE)))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest(), unkept


def _named(word: str, bases: set[Path]) -> Iterator[Path]:
    """The files and directories that any part of a word names; rather one that is not meant than one too few."""
    word = word.replace("//localhost/", "/").strip("'\"")
    for begin in (0, *(found.end() for found in _BEGINS.finditer(word))):
        for end in _ENDS.finditer(word):
            part = word[begin : end.start()].strip("'\" ")
            for name in {part, unquote(part)} - {""}:
                paths = (os.path.normpath(base / name) for base in bases)
                yield from (Path(path) for path in paths if os.path.lexists(path))


def _ignored(file: Path) -> str:
    lines = read_regular(file, b"").decode("utf-8-sig", "replace").splitlines()
    names = [line.strip().removeprefix("./").rstrip("/") for line in lines if not line.lstrip().startswith("#")]
    return "|".join(fnmatch.translate(name + below) for name in names if name for below in ("", "/*")) or "(?!)"
