"""The local files and directories that a requirements file refers to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs

_OPTION = re.compile(
    r"(?:(?P<file>-r|--requirement|-c|--constraint)|(?P<editable>-e|--editable)|-f|--find-links)[ =]*(?P<value>.+)"
)
_ADDRESS = re.compile(r"(?:^|@\s*)(file:\S+)")
_PATH = re.compile(r"(?:\.{0,2}/[^\s\[;]*|[^\s\[;]+\.(?:whl|zip|tar\.gz|tgz|tar\.bz2))(?=\[|\s|;|$)")


@attrs.frozen(kw_only=True)
class LocalReferences:
    """The local files and directories that a requirements file refers to."""

    digest: str  #: of their contents
    editable: str  #: the first editable install; empty without one

    @classmethod
    def of(cls, path: Path, directory: Path) -> LocalReferences:
        """Find the references of a requirements file and of the files that it includes.

        Paths of packages are relative to `directory`, the working directory of the installer.
        """
        digest = hashlib.sha256()
        editable = ""
        for reference, is_editable in _references(path, directory, set()):
            editable = editable or (str(reference) if is_editable else "")
            for file in sorted(reference.rglob("*")) if reference.is_dir() else [reference]:
                if file.is_file():
                    digest.update(f"{file} {file.stat().st_size} ".encode())
                    with file.open("rb") as content:
                        digest.update(hashlib.file_digest(content, "sha256").digest())
        return cls(digest=digest.hexdigest(), editable=editable)


def _references(path: Path, directory: Path, seen: set[Path]) -> Iterator[tuple[Path, bool]]:
    if path in seen or not path.is_file():
        return
    seen.add(path)
    # The installer reports text that is not UTF-8.
    text = path.read_text(encoding="utf-8-sig", errors="replace").replace("\\\n", " ")
    for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()):
        if option := _OPTION.match(line):
            value = option["value"].strip().strip("'\"")
            if option["file"]:
                included = path.parent / value
                yield included, False
                yield from _references(included, directory, seen)
            elif "://" not in value:
                yield directory / value.partition("[")[0], bool(option["editable"])
            else:
                yield from _local(value, bool(option["editable"]))
        elif address := _ADDRESS.search(line):
            yield from _local(address[1], False)
        elif found := _PATH.match(line):
            yield directory / found[0], False


def _local(address: str, editable: bool) -> Iterator[tuple[Path, bool]]:
    parts = urlsplit(address)
    if parts.scheme == "file":
        yield Path(unquote(parts.path)), editable
