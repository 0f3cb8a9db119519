"""The consumer archive, ``consumer.zip``. It is untrusted input and checked before it is extracted."""

from __future__ import annotations

import codecs
import contextlib
import difflib
import logging
import lzma
import os
import re
import shutil
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import attrs

from ..environment.local_files import IGNORE
from ..errors import ArchiveError, FilterError, explained
from ..filter.filter import Filter
from ..settings.converters import module_names, size
from ..settings.option import documented, setting
from ..system.account import Account
from ..system.files import digest_tree, special_kind
from ..system.temporary import temporary_directory
from .entry_names import read_name

log = logging.getLogger(__name__)

ENTRY_POINT = "__main__.py"
FILTER = "jsonpath2.txt"
REQUIREMENTS = "requirements.txt"
INIT_SCRIPT = "init.sh"
PRELOAD = "preload.txt"

_CHUNK = 1 << 20
_ENCRYPTED = 0x1
_RATIO_MATTERS_ABOVE = 1 << 20
_MOST_FOLDERS = 500
_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


@documented
@attrs.frozen(kw_only=True)
class ArchiveLimits:
    """Limits on an archive.

    Args:
        entries: Maximum number of files and folders.
        ratio: Maximum ratio of a file's size to its compressed size; files up to 1 MiB are exempt.
    """

    entries: int = 10_000
    size: int = setting(
        "the most bytes of an archive's extracted files together, such as 2G; TMPDIR must have room for them",
        size,
        name="archive_size",
        default=1 << 30,
    )
    ratio: int = 200


@attrs.frozen(kw_only=True)
class Consumer:
    """An extracted consumer.

    Args:
        directory: The directory.
        filter: The filter in ``jsonpath2.txt``; None matches every notification.
        requirements: The path of ``requirements.txt``, if there is one.
        init_script: The path of ``init.sh``, if there is one.
        preload: The modules that ``preload.txt`` names.
    """

    directory: Path
    filter: Filter | None
    requirements: Path | None
    init_script: Path | None
    preload: tuple[str, ...] = ()

    @property
    def entry_point(self) -> Path:
        """The script that is run for each matching notification."""
        return self.directory / ENTRY_POINT

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Consumer:
        """Load an extracted consumer.

        Raises:
            FilterError: ``jsonpath2.txt`` is empty, has several lines, or cannot be parsed.
            ArchiveError: ``init.sh`` or ``preload.txt`` is not usable, or a part is not a file, such as a named pipe.
        """
        directory = Path(directory)
        _existing(directory / ENTRY_POINT)
        return cls(
            directory=directory,
            filter=read_filter(directory / FILTER),
            requirements=_existing(directory / REQUIREMENTS),
            init_script=find_init_script(directory / INIT_SCRIPT),
            preload=read_preload(directory / PRELOAD),
        )


@contextlib.contextmanager
def open_archive(
    path: str | os.PathLike[str], limits: ArchiveLimits | None = None, run_as: Account | str | None = None
) -> Iterator[Consumer]:
    """Extract a consumer archive to a temporary directory, which is deleted at the end of the context.

    Args:
        path: The ``consumer.zip``.
        limits: Limits on the archive; by default `ArchiveLimits`.
        run_as: The user to own the directory, or its name; None for the user of this process.

    Raises:
        ConfigurationError: The user cannot reach the directory for temporary files.
        ArchiveError: The archive cannot be read, has no entry-point, or contains forbidden entries.
        FilterError: The ``jsonpath2.txt`` is not usable.
    """
    with consumer_directory(
        lambda directory: extract(Path(path), directory, limits or ArchiveLimits()), run_as
    ) as directory:
        yield load_consumer(directory)


def load_consumer(directory: Path) -> Consumer:
    """Load an extracted consumer as `Consumer.load` does, and log a warning for each misnamed part."""
    for name, problem, advice in misnamed_parts(path.name for path in directory.iterdir()):
        log.warning("%s: %s; %s", name, problem, advice)
    return Consumer.load(directory)


@contextlib.contextmanager
def consumer_directory(fill: Callable[[Path], None], run_as: Account | str | None) -> Iterator[Path]:
    """Make a temporary directory for a consumer, which ``run_as`` owns, and fill it; raises as `open_archive` does."""
    with temporary_directory("pacifica-consumer-") as parent:
        directory = parent / "consumer"
        directory.mkdir(mode=0o700)
        fill(directory)
        # The user owns the directory, but not its parent, and therefore cannot replace it.
        Account.of(run_as).admit(parent, directory, advice="let TMPDIR name a directory that all users can reach")
        yield directory


def check_archive(path: Path, limits: ArchiveLimits | None = None, *, shown_as: Path | None = None) -> None:
    """Check an archive, which errors call ``shown_as``, without extracting it; raises `ArchiveError`."""
    with zipfile.ZipFile(path) as archive:
        _check(shown_as or path, _read_entries(archive), limits or ArchiveLimits())


def extract(path: Path, directory: Path, limits: ArchiveLimits, *, shown_as: Path | None = None) -> None:
    """Extract a consumer archive into an empty directory; files that were extracted before an `ArchiveError` stay.

    Errors about the content call the archive ``shown_as``.
    """
    if kind := special_kind(path):
        raise ArchiveError(f"{path} is {kind}", "copy it into a file")
    try:
        # Newer Pythons warn of an empty extra field, which `read_name` understands.
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path) as archive:
            entries = _read_entries(archive)
            _check(shown_as or path, entries, limits)
            for entry in entries:
                problem = f"cannot extract {entry.filename[:80]!r} of {shown_as or path} to {directory}"
                with explained(ArchiveError, problem, "make room there, or let TMPDIR name another place"):
                    _extract_entry(archive, entry, directory)
    except IsADirectoryError:
        raise ArchiveError(f"{path} is a directory", f"pack it: pacifica-notifications-consumer pack {path}") from None
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    except UnicodeDecodeError as error:
        problem = f"{path} contains the name {error.object!r}, which is not UTF-8"
        raise ArchiveError(problem, "rename the file, and create the archive again with zip") from error
    except zipfile.BadZipFile as error:
        raise ArchiveError(f"{path} is not a usable zip archive: {error}", "create it again with zip") from error
    except (zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError, ValueError, IndexError) as error:
        raise ArchiveError(f"{path} cannot be extracted: {error}", "create it again with zip and deflate") from error


def _read_entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The entries of an archive, each with the `filename` that `read_name` reads."""
    for entry in archive.infolist():
        entry.filename = read_name(entry)
    return archive.infolist()


def _check(path: Path, entries: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    if len(entries) > limits.entries:
        raise ArchiveError(f"{path} has {len(entries)} entries, the limit is {limits.entries}", _TOO_LARGE)
    if (size := sum(entry.file_size for entry in entries)) > limits.size:
        raise ArchiveError(f"{path} would take {size} bytes when extracted, the limit is {limits.size}", _TOO_LARGE)
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for entry in entries:
        _check_entry(path, entry, limits)
        name = PurePosixPath(entry.filename)
        if name in files or (name in folders and not entry.is_dir()):
            raise ArchiveError(f"{path} contains {str(name)!r} twice", "create it again with zip")
        (folders if entry.is_dir() else files).add(name)
        folders.update(name.parents)
    if files & folders:
        raise ArchiveError(
            f"{path} contains {str(min(files & folders))!r} as a file and as a folder", "create it again with zip"
        )
    if PurePosixPath(ENTRY_POINT) not in files:
        raise _no_entry_point(path, files)


_TOO_LARGE = "leave out files that the entry-point does not need"


def _check_entry(path: Path, entry: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    name = entry.filename
    parts = name.removesuffix("/").split("/")
    if "\\" in name or "\0" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise ArchiveError(
            f"{path} contains an entry with the unsafe name {name!r}", "use relative names with / and without .. or :"
        )
    if len(parts) > _MOST_FOLDERS + 1:
        raise ArchiveError(
            f"{path} contains {name[:80]!r}…, which is in more than {_MOST_FOLDERS} folders", "put it into fewer"
        )
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise ArchiveError(f"{path} contains the symbolic link {name!r}", "include the file itself (zip without -y)")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"{path} contains {name!r}, which is neither a file nor a folder", "leave it out")
    if entry.flag_bits & _ENCRYPTED:
        raise ArchiveError(f"{path} contains the encrypted entry {name!r}", "create it again without a password")
    if entry.file_size > max(_RATIO_MATTERS_ABOVE, entry.compress_size * limits.ratio):
        raise ArchiveError(
            f"{path} contains {name!r}, which would grow from {entry.compress_size} to {entry.file_size} bytes "
            f"when extracted, the limit is {limits.ratio} times",
            "generate this file in the entry-point instead",
        )


#: What the consumer does without each of its parts.
_WITHOUT = {
    ENTRY_POINT: "the consumer cannot run",
    FILTER: "every notification matches",
    REQUIREMENTS: "nothing is installed",
    INIT_SCRIPT: "nothing is run before the requirements are installed",
    PRELOAD: "nothing is preloaded",
    IGNORE: "an environment in a cache may depend on all files",
}


def misnamed_parts(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Find files at the top whose names are almost those of missing parts, such as ``Requirements.txt``.

    Yields:
        The name, the problem, and what to do about it.
    """
    names = sorted(names)
    for part, consequence in _WITHOUT.items():
        similar = [name for name in names if "/" not in name and _resembles(name, part)]
        for name in similar if part not in names else ():
            yield (
                name if name == name.strip() else repr(name),
                f"it is ignored, since the name must be {part}, and {consequence}",
                f"rename it to {part}",
            )


def _resembles(name: str, part: str) -> bool:
    endings = re.compile(rf"({re.escape(PurePosixPath(part).suffix)}|\.te?xt|\.json|\.in)*$")
    names = (each.casefold().strip().replace(".bash", ".sh") for each in (name, part))
    stem, wanted = (re.sub(r"[\W_]", "", endings.sub("", each)) for each in names)
    return difflib.SequenceMatcher(None, stem, wanted).ratio() >= _SIMILARITY


#: Of ``jsonpath`` and ``jsonpath2``, but not of ``requirements-dev`` and ``requirements``.
_SIMILARITY = 0.9


def _no_entry_point(path: Path, files: set[PurePosixPath]) -> ArchiveError:
    for name, _, advice in misnamed_parts(map(str, files)):
        if advice.endswith(ENTRY_POINT):
            return ArchiveError(f"{path} has no {ENTRY_POINT}, but {name}", advice)
    nested = sorted(name for name in files if name.name == ENTRY_POINT)
    if nested:
        folder = nested[0].parent
        return ArchiveError(
            f"{path} has its {ENTRY_POINT} in the folder {str(folder)!r}, not at the top",
            f"zip the content of the folder, not the folder: cd {folder} && zip -r ../consumer.zip .",
        )
    return ArchiveError(f"{path} has no {ENTRY_POINT}", "add the entry-point at its top")


def _extract_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, directory: Path) -> None:
    # The name is written in UTF-8, whatever the locale.
    target = directory / os.fsdecode(entry.filename.encode())
    if entry.is_dir():
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    executable = (entry.external_attr >> 16) & stat.S_IXUSR
    with archive.open(entry) as source, target.open("xb") as out:
        # zipfile stops at the declared size, which was checked, however long the decompressed data are.
        shutil.copyfileobj(source, out, _CHUNK)
    target.chmod(0o700 if executable else 0o600)


def digest(directory: str | os.PathLike[str]) -> str:
    """Hash all files of an extracted consumer that its jobs depend on: all but the filter.

    Args:
        directory: The consumer's directory.

    Returns:
        A SHA-256 in hexadecimal digits. Jobs of consumers with the same digest do the same.
    """
    return digest_tree(Path(directory), re.escape(FILTER))


def find_init_script(path: Path) -> Path | None:
    """Find and check an ``init.sh``, which cannot run as some editors save it; None if it does not exist."""
    content = path.read_bytes() if _existing(path) else b""
    if content.startswith(_BYTE_ORDER_MARKS):
        raise ArchiveError(f"{path.name} begins with a byte order mark (BOM)", "save it as UTF-8 without BOM")
    if b"\r\n" in content:
        raise ArchiveError(f"{path.name} has the line endings of Windows", "save it with Unix line endings (LF)")
    return _existing(path)


def _existing(path: Path) -> Path | None:
    if kind := special_kind(path):
        raise ArchiveError(f"{path.name} is {kind}", "replace it with a file, or remove it")
    return path if path.is_file() else None


def read_preload(path: Path) -> tuple[str, ...]:
    """Read the modules' names in a ``preload.txt``, if it exists; raises `ArchiveError` if it is not usable."""
    try:
        return module_names(path.read_text(encoding="utf-8-sig")) if _existing(path) else ()
    except ValueError as error:
        reason = "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ArchiveError(f"{path.name} is not usable: {reason}", "write one module on each line") from error


def read_filter(path: Path) -> Filter | None:
    """Read the filter in a ``jsonpath2.txt``, if it exists; raises `FilterError` if it is not usable."""
    if not _existing(path):
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FilterError(f"{path.name} is not text in UTF-8 (byte {error.start})", "save it as UTF-8") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise FilterError(
            f"{path.name} is empty", "write a JSONPath into it, or delete it to process every notification"
        )
    if len(lines) > 1:
        number, line = lines[1]
        raise FilterError(
            f"{path.name} has more than one line: line {number} is {line[:80]!r}", "write one JSONPath, on one line"
        )
    try:
        return Filter(lines[0][1])
    except FilterError as error:
        raise FilterError(f"{path.name}: {error.problem}", error.advice, output=error.output) from error
