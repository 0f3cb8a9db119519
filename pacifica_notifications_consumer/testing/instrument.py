"""Uploads files as an instrument would, to make a transaction for testing a consumer."""

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

#: The defaults of a transaction in the sandbox, in which every user is a member of every project.
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
    """Upload files as a transaction.

    Args:
        contents: The content of each file, or the path of a local file, by its path in the transaction, with ``/``
            between names.
        services: The addresses of the Pacifica services.
        submitter: The submitter's number.
        project: The project.
        project_field: ``project``, or ``proposal`` for older versions of Pacifica.
        instrument: The instrument's number.
        key_values: The key-values of the transaction.

    Returns:
        The transaction's notification.

    Raises:
        UploadError: There are no files, a file cannot be read, or ingest rejects the upload.
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
        raise UploadError(f"{name!r} is not a valid file name", "use names separated by /, without . and ..")
    target = uploads.joinpath(*parts)
    with explained(UploadError, f"cannot read {name}", "check the path and the access rights"):
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
            return
        try:
            # A hard link saves the copy; the file is only read.
            os.link(content.resolve(), target)
        except OSError:
            shutil.copy2(content, target)


def files_below(paths: Sequence[Path]) -> dict[str, Path]:
    """Collect files and the files in folders, by their names in a transaction; a folder's own name comes first."""
    found: dict[str, Path] = {}
    for path in paths:
        for name, file in _files(path):
            if name in found:
                raise UploadError(f"{found[name]} and {file} have the same name {name}", "rename one of them")
            found[name] = file
    return found


def files_in(directory: Path) -> dict[str, Path]:
    """The files in a directory and its folders, by their paths below it."""
    walked = os.walk(directory, onerror=_refuse)
    paths = (Path(folder, name) for folder, _, names in walked for name in names)
    return dict(sorted((path.relative_to(directory).as_posix(), path) for path in paths))


def _refuse(error: OSError) -> None:
    problem = f"cannot read {error.filename}: {error.strerror}"
    raise UploadError(problem, "check the path and the access rights") from error


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    with explained(UploadError, f"cannot read {path}", "check the access rights"):
        is_folder, is_there = path.is_dir(), path.exists()
    if not is_there:
        raise UploadError(f"{path} does not exist", "correct the path")
    if not is_folder:
        yield path.name, path
        return
    for name, file in files_in(path).items():
        yield f"{path.resolve().name}/{name}", file
