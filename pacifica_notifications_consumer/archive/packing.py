"""Packs the directory of a consumer into a ``consumer.zip``, reproducibly."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

import attrs

from ..errors import ArchiveError, explained
from ..system.account import Account
from ..system.files import replacing, special_kind
from ..system.temporary import temporary_directory
from .archive import ArchiveLimits, Consumer, check_archive, consumer_directory, extract, load_consumer
from .references import find_references

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_MAIN_REASONS = {
    "__pycache__": "compiled code",
    "node_modules": "packages",
    ".git": "version control",
    "tests": "tests",
    "conftest.py": "tests",
}
_SELF = "the archive itself"
#: The reasons that also hold for a name in a string, and in a folder that is packed in any case.
_FIRM_REASONS = ("compiled code", "version control", "a virtual environment", _SELF)


@attrs.frozen(kw_only=True)
class PackedArchive:
    """The result of `pack`.

    Args:
        files: The packed files, with ``/`` between names, and empty folders, which end with ``/``; sorted.
        left_out: The paths that were left out, each with the reason, sorted.
    """

    files: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def pack(
    directory: str | os.PathLike[str], archive: str | os.PathLike[str], include: Collection[str | os.PathLike[str]] = ()
) -> PackedArchive:
    """Pack a consumer. The same files give the same bytes on every machine with the same zlib.

    Hidden files, compiled code, tests, virtual environments, other archives and backup files of editors are left out,
    unless the consumer's code imports them or names them in a string.

    Args:
        directory: The consumer's directory.
        archive: The file to write.
        include: Files and folders to be packed in any case, as paths below the directory.

    Returns:
        The paths that were packed and those that were left out.

    Raises:
        ArchiveError: The directory is not a usable consumer or cannot be read, or the archive cannot be written.
    """
    directory, archive = Path(directory), Path(archive)
    if not _is_directory(directory):
        raise ArchiveError(f"{directory} is not a directory", "name the directory with the consumer's __main__.py")
    if kind := special_kind(archive):
        raise ArchiveError(f"{archive} is {kind}", "name a file to be written")
    packed = _select(directory, archive, [PurePosixPath(path).as_posix() for path in include])
    problem = f"cannot pack {directory} into {archive}"
    with explained(ArchiveError, problem, "check both paths"), replacing(archive) as new:
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
            for name in packed.files:
                path = directory / os.fsdecode(name.encode())
                zipped.writestr(_entry(name, path), b"" if path.is_dir() else path.read_bytes())
        new.flush()
        check_archive(Path(new.name), shown_as=directory)
    return packed


@contextlib.contextmanager
def open_consumer(
    path: str | os.PathLike[str], limits: ArchiveLimits | None = None, run_as: Account | str | None = None
) -> Iterator[Consumer]:
    """Put a consumer into a temporary directory as it would be deployed, and load it.

    Args:
        path: A ``consumer.zip``, or a directory that could be packed into one.
        limits: Limits on the archive; by default `ArchiveLimits`.
        run_as: The user to own the directory, or its name; None for the user of this process.

    Raises:
        ConfigurationError: The user cannot reach the directory for temporary files.
        ArchiveError: The archive or directory is not a usable consumer.
        FilterError: The ``jsonpath2.txt`` is not usable.
    """
    with consumer_directory(lambda directory: unpack(Path(path), directory, limits), run_as) as directory:
        yield load_consumer(directory)


def unpack(path: Path, directory: Path, limits: ArchiveLimits | None = None) -> None:
    """Put a consumer, packed or not, into an empty directory, as it would be deployed; see `open_consumer`."""
    if not _is_directory(path):
        extract(path, directory, limits or ArchiveLimits())
        return
    with temporary_directory("pacifica-pack-") as temporary:
        archive = temporary / "consumer.zip"
        pack(path, archive)
        extract(archive, directory, limits or ArchiveLimits(), shown_as=path)


def _is_directory(path: Path) -> bool:
    with explained(ArchiveError, f"cannot read {path}", "check the path and the access rights"):
        return path.is_dir()


def _select(directory: Path, archive: Path, include: Collection[str]) -> PackedArchive:
    reasons = _reasons(directory, archive, include)
    if missing := sorted({*include} - reasons.keys()):
        raise ArchiveError(f"{missing[0]} is not in {directory}", "give its path below this directory")
    # Compiled code is imported only without its source.
    modules = {path for path in reasons if path.endswith(".pyc") and path[:-1] not in reasons}
    findable = modules.union(path for path, reason in reasons.items() if reason not in _FIRM_REASONS)
    named = find_references(directory, findable)
    brought_back, left_out = set[str](), dict[str, str]()
    for path, own in reasons.items():  # a folder comes before its content
        folder = posixpath.dirname(path)
        reason = own or left_out.get(folder, "")
        inside = folder in brought_back and own not in _FIRM_REASONS
        if own != _SELF and (path in include or inside or (reason and path in named)):
            brought_back.add(path)
        elif reason:
            left_out[path] = reason
    packed = sorted(reasons.keys() - left_out.keys())
    parents = {str(parent) for path in packed for parent in PurePosixPath(path).parents}
    hidden = left_out.keys() - parents
    return PackedArchive(
        files=tuple(_name(directory / path, path) for path in packed if path not in parents),
        left_out=tuple((path, left_out[path]) for path in sorted(hidden) if posixpath.dirname(path) not in hidden),
    )


def _reasons(directory: Path, archive: Path, include: Collection[str]) -> dict[str, str]:
    """All paths below a directory, each with the reason for leaving it out by its name; empty without one."""
    reasons = {}
    for folder, folders, names in os.walk(directory, onerror=_refuse):
        if (folders, names) == (["__pycache__"], []) and folder != os.fspath(directory):
            # What remains of deleted modules.
            reasons[Path(folder).relative_to(directory).as_posix()] = "compiled code"
        for name in sorted((*folders, *names)):
            path = Path(folder, name)
            shown = path.relative_to(directory).as_posix()
            with explained(ArchiveError, f"cannot read {path}", "check the access rights"):
                reasons[shown] = _reason(path, archive)
            wanted = any(f"{each}/".startswith(f"{shown}/") for each in include)
            if reasons[shown] in _FIRM_REASONS and name in folders and not wanted:
                folders.remove(name)
    return reasons


def _name(path: Path, shown: str) -> str:
    """The name in the archive, in UTF-8 whatever the locale, of a path that can be packed."""
    kind = special_kind(path)
    if path.is_symlink():
        advice = "remove it" if kind else "replace it with a copy of its target"
        raise ArchiveError(f"{path} is a symbolic link{kind and f' to {kind}'}", advice)
    if kind:
        raise ArchiveError(f"{path} is {kind}", "remove it")
    try:
        return os.fsencode(shown).decode() + "/" * path.is_dir()
    except UnicodeDecodeError:
        raise ArchiveError(f"the name of {path} is not UTF-8", "rename it") from None


def _refuse(error: OSError) -> None:
    with explained(ArchiveError, f"cannot read {error.filename}", "check the access rights"):
        raise error


def _reason(path: Path, archive: Path) -> str:
    """Why a path is left out; empty if it is to be packed."""
    name = path.name
    if path.absolute() == archive.absolute():
        return _SELF
    if name in _MAIN_REASONS:
        return _MAIN_REASONS[name]
    if name.startswith("."):
        return "hidden"
    if name.startswith("test_") and name.endswith(".py"):
        return "tests"
    if name.endswith((".pyc", ".egg-info")):
        return "compiled code"
    if name.endswith("~"):
        return "an editor's backup"
    if name.endswith(".zip") and path.parent.joinpath("__main__.py").exists():
        return "another archive"
    if (path / "pyvenv.cfg").is_file():
        return "a virtual environment"
    return ""


def _entry(name: str, path: Path) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    # A folder always has the rights to be entered, whatever the umask.
    executable = entry.is_dir() or path.stat().st_mode & stat.S_IXUSR
    kind = stat.S_IFDIR if entry.is_dir() else stat.S_IFREG
    entry.external_attr = (kind | (0o755 if executable else 0o644)) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    # 3 means Unix, so that the bytes are the same on every system.
    entry.create_system = 3
    return entry
