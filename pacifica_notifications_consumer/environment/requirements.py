"""Reads requirements files as both installers do: decoded, and with the lines of the files that they include."""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import attrs

from ..errors import RequirementError, explained, shown
from ..system.files import read_regular
from .wheel import MEANT, MISNOMER

#: Maximum number of the files that include each other, and of their bytes.
_MOST_FILES, _MOST_BYTES = 100, 4 << 20
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)[\s=]*(.+)")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_COMMENT = re.compile(r"(^|\s)#.*")
_PINNED = re.compile(r"[^<>=!~;]+={2,3}\s*[^\s*,;]+\s*(?:;|--|$)")
_HASH = re.compile(r"\s--hash(?:[=\s]\s*|$)(\S*)")
_GOOD_HASH = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
#: A path after a name and ``@``, or after ``file:``, where old versions of pip demand an address such as ``file:///x``.
_NAMED_PATH = r"[\w.-]+\s*(?:\[[^\]]*\]\s*)?@\s*(?!(?!file:)\w[\w+.]*:|file://[^/]*/(?!/))(?:file:(?:/*(?=/))?)?"
_PATH = re.compile(rf"(?:{_NAMED_PATH}|.*?(?<![^\s@=])file:(?!/))([^\s;#]+)")
_MISNOMER = re.compile(rf"{MISNOMER}(?![\w.-])", re.IGNORECASE)
_MISNOMER_WITH_EXTRAS = re.compile(rf"{MISNOMER}\s*\[[^\]]*\]?", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Line:
    """A line of a requirements file, without comments and continuations, and with the values of its variables."""

    text: str
    file: Path  #: where it stands
    number: int  #: the number of the line in the file, or of the first of those that it continues
    is_constraint: bool  #: whether it stands in a file of constraints
    is_include: bool  #: whether it names another file, whose lines follow

    @property
    def has_hash(self) -> bool:
        """Whether it has a hash."""
        return "--hash" in self.text

    def check(self) -> None:
        """Raise `RequirementError` if one installer would take the line, and another refuse it or ignore a part."""
        name, problem = self.text.partition("--hash")[0].strip(), ""
        if not self.is_include and (found := _PATH.match(self.text)):
            path = unquote(found[1])
            problem = f"{self.text!r} has a path after @ or file:, where not every installer takes one"
            advice = f"write only the path, {path if path.startswith(('.', '/')) else f'./{path}'}"
        elif found := _MISNOMER_WITH_EXTRAS.match(self.text):
            # pip would not find the bound package, and ask the index.
            problem, advice = f"{found[0]!r} is read as {MEANT}, which has no extras", f"write {MEANT}"
        elif self.has_hash and self.is_constraint:
            problem = f"the constraint {name!r} has a hash, which not every installer checks"
            advice = "include its file with -r instead of -c"
        elif self.has_hash and _MISNOMER.match(name):
            problem = f"{name!r} is read as {MEANT}, so it cannot have a hash"
            advice = f"write {MEANT}, its version and its hash"
        elif self.has_hash and "/" not in name and not _PINNED.match(self.text):
            problem = f"the requirement {name!r} has a hash, but not one version"
            advice = "name the version with =="
        elif wrong := [each for each in _HASH.findall(self.text) if not _GOOD_HASH.fullmatch(each)]:
            problem = f"the hash {wrong[0]!r} is not one that every installer checks"
            advice = "write sha256: and 64 hexadecimal digits in lower case (or sha384: and 96, or sha512: and 128)"
        if problem:
            raise RequirementError(f"{self.file.name}:{self.number}: {problem}", advice)


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
            RequirementError: It is not text, or has a line that the installers would not treat alike.
        """
        lines = tuple(_read(path, environ, False, {}))
        for line in lines:
            line.check()
        return cls(lines=lines)

    @property
    def has_hashes(self) -> bool:
        """Whether the installer must check hashes."""
        return any(line.has_hash or line.text.startswith("--require-hashes") for line in self.lines)


def decoded(path: Path) -> str:
    """Read the text of a requirements file, which is UTF-8 or, as Windows writes it, UTF-16 with a byte order mark.

    Raises:
        RequirementError: It is not a regular file, is too large, or in another encoding, which one installer would
            guess, and the other refuse.
    """
    with explained(RequirementError, f"{path.name} cannot be read", "put a file of requirements there"):
        content = read_regular(path, most=_MOST_BYTES)
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
        position = text.find("\0")
    except UnicodeDecodeError as error:
        position = error.start
    if position >= 0:
        raise RequirementError(f"{path.name} is not text in UTF-8 (byte {position})", "save it as UTF-8")
    return text


def _read(
    path: Path, environ: Mapping[str, str], is_constraint: bool, seen: dict[tuple[Path, bool], int]
) -> Iterator[Line]:
    with explained(RequirementError, f"{shown(str(path))} cannot be read", "correct its path or its rights"):
        # Not by `is_file`, which in newer versions of Python is also false for what may not be looked at.
        try:
            if (path, is_constraint) in seen or not stat.S_ISREG(path.stat().st_mode):
                return
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return  # The installer reports a missing file.
    text = decoded(path)
    seen[path, is_constraint] = len(text)
    if len(seen) > _MOST_FILES or sum(seen.values()) > _MOST_BYTES:
        problem = f"{path.name} and the files that it is included with are more than {_MOST_FILES} files, or 4 MiB"
        raise RequirementError(problem, "write fewer requirements, or into fewer files")
    number = 1
    for line in re.sub(r"\\\r?\n", "\0", text).splitlines():  # It has no NUL itself.
        first, number = number, number + 1 + line.count("\0")
        if not (text := _COMMENT.sub("", line.replace("\0", " ")).strip()):
            continue
        text = _VARIABLE.sub(lambda found: environ.get(found[1]) or found[0], text)
        included = _INCLUDE.fullmatch(text)
        yield Line(text=text, file=path, number=first, is_constraint=is_constraint, is_include=bool(included))
        if included:
            name = included[2].strip("'\"")
            file = unquote(re.sub("^file:(//(localhost)?)?", "", name)) if name.startswith("file:") else name
            file = os.path.normpath(path.parent / file)
            yield from _read(Path(file), environ, is_constraint or included[1].startswith(("-c", "--c")), seen)
