"""Reads requirements files as both installers do: decoded, and with the lines of the files that they include."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import attrs

from ..errors import RequirementError

_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)[\s=]*(.+)")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_COMMENT = re.compile(r"(^|\s)#.*")
_PINNED = re.compile(r"[^<>=!~;]+={2,3}\s*[^\s*,;]+\s*(?:;|--|$)")


@attrs.frozen(kw_only=True)
class Line:
    """A line of a requirements file, without comments and continuations, and with the values of its variables."""

    text: str
    folder: Path  #: the directory of the file
    is_constraint: bool  #: whether it stands in a file of constraints
    is_include: bool  #: whether it names another file, whose lines follow

    @property
    def has_hash(self) -> bool:
        """Whether it has a hash."""
        return "--hash" in self.text


@attrs.frozen(kw_only=True)
class Requirements:
    """The requirements of a consumer.

    Args:
        lines: The lines of its file and of the files that it includes.
    """

    lines: tuple[Line, ...] = ()

    @classmethod
    def read(cls, path: Path, environ: Mapping[str, str]) -> Requirements:
        """Read a file, with the values of variables.

        Raises:
            RequirementError: It is not text, or has a hash where not every installer checks it.
        """
        lines = tuple(_read(path, environ, False, set()))
        for line in (line for line in lines if line.has_hash):
            name = line.text.partition("--hash")[0].strip()
            if line.is_constraint:
                problem = f"the constraint {name!r} has a hash, which not every installer checks"
                raise RequirementError(problem, "include its file with -r instead of -c")
            if "/" not in name and not _PINNED.match(line.text):
                problem = f"the requirement {name!r} has a hash, but not one version"
                raise RequirementError(problem, "name the version with ==")
        return cls(lines=lines)

    @property
    def has_hashes(self) -> bool:
        """Whether the installer must check hashes."""
        return any(line.has_hash or line.text.startswith("--require-hashes") for line in self.lines)


def decoded(path: Path) -> str:
    """Read the text of a requirements file, which is UTF-8 or, as Windows writes it, UTF-16 with a byte order mark.

    Raises:
        RequirementError: It is in another encoding, which one installer would guess, and the other refuse.
    """
    content = path.read_bytes()
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
        position = text.find("\0")
    except UnicodeDecodeError as error:
        position = error.start
    if position >= 0:
        raise RequirementError(f"{path.name} is not text in UTF-8 (byte {position})", "save it as UTF-8")
    return text


def _read(path: Path, environ: Mapping[str, str], is_constraint: bool, seen: set[tuple[Path, bool]]) -> Iterator[Line]:
    if (path, is_constraint) in seen or not path.is_file():
        return  # The installer reports a missing file.
    seen.add((path, is_constraint))
    joined = re.sub(r"\\\r?\n", " ", decoded(path))
    for text in filter(None, (_COMMENT.sub("", line).strip() for line in joined.splitlines())):
        text = _VARIABLE.sub(lambda found: environ.get(found[1]) or found[0], text)
        included = _INCLUDE.fullmatch(text)
        yield Line(text=text, folder=path.parent, is_constraint=is_constraint, is_include=bool(included))
        if included:
            name = included[2].strip("'\"")
            file = unquote(re.sub("^file:(//(localhost)?)?", "", name)) if name.startswith("file:") else name
            file = os.path.normpath(path.parent / file)
            yield from _read(Path(file), environ, is_constraint or included[1].startswith(("-c", "--c")), seen)
