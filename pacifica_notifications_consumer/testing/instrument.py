"""Upload files as an instrument would, to have a transaction to try a consumer on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UploadError, explained
from ..settings.services import Services
from ..system.temporary import temporary_directory
from ..transfer.uploader import upload

#: A transaction of the sandbox, where every user is a member of every project.
SUBMITTER, PROJECT, INSTRUMENT = 10, "1234a", 54


def send_files(
    contents: Mapping[str, Path] | Mapping[str, bytes] | Mapping[str, Path | bytes],
    *,
    services: Services,
    submitter: int = SUBMITTER,
    project: str = PROJECT,
    project_field: str = "project",
    instrument: int = INSTRUMENT,
    key_values: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make a transaction of some files.

    Args:
        contents: The content of each file, or where it is, by what it is to be called: ``/`` stands between names.
        services: Where Pacifica is.
        submitter: The number of who uploads.
        project: The project.
        project_field: ``project``, or ``proposal`` for a Pacifica of the time when it was called so.
        instrument: The number of the instrument.
        key_values: What is said of the transaction.

    Returns:
        The transaction's notification.

    Raises:
        UploadError: There are no files, they cannot be read, or ingest does not take them.
        ServiceError: ingest cannot be reached or refuses.
    """
    attributes = {"submitter": submitter, project_field: project, "instrument": instrument}
    rows = {f"Transactions.{name}": value for name, value in attributes.items()}
    with temporary_directory("pacifica-instrument-") as event_path:
        (event_path / "uploads").mkdir()
        for name, content in contents.items():
            _put(event_path / "uploads", name, content)
        notification: dict[str, Any] = upload(event_path, rows, key_values, services=services).get()
        return notification


def _put(uploads: Path, name: str, content: Path | bytes) -> None:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise UploadError(f"a file cannot be called {name!r}", "use plain names with / between")
    target = uploads.joinpath(*parts)
    with explained(UploadError, f"cannot read {name}", "check the path and the access rights"):
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
            return
        try:
            # What is only read need not be copied.
            os.link(content.resolve(), target)
        except OSError:
            shutil.copy2(content, target)


def files_below(paths: Sequence[Path]) -> dict[str, Path]:
    """The files that some paths stand for: a file by its name, a folder's files by their paths from it on.

    Raises:
        UploadError: A path leads nowhere, or two files would have one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for name, file in _files(path):
            if name in found:
                raise UploadError(f"both {found[name]} and {file} would be called {name}", "rename one of them")
            found[name] = file
    return found


def files_in(directory: Path) -> dict[str, Path]:
    """The files in a directory, by their paths from there on.

    Raises:
        UploadError: A folder in it cannot be read.
    """
    found = {}
    for folder, _, names in os.walk(directory, onerror=_refuse):
        for path in (Path(folder, name) for name in names):
            found[path.relative_to(directory).as_posix()] = path
    return dict(sorted(found.items()))


def _refuse(error: OSError) -> None:
    raise UploadError(
        f"cannot read {error.filename}: {error.strerror}", "check the path and the access rights"
    ) from error


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    with explained(UploadError, f"cannot read {path}", "check the access rights"):
        is_folder, is_there = path.is_dir(), path.exists()
    if not is_there:
        raise UploadError(f"there is no file {path}", "correct the path")
    if not is_folder:
        yield path.name, path
        return
    for name, file in files_in(path).items():
        yield f"{path.resolve().name}/{name}", file
