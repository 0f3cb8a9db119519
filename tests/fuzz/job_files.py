"""The files of a job, in whose place its entry-point may put anything: links, pipes, sockets, folders, any content."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pacifica_notifications_consumer.engines.celery.output import OutputCopy
from pacifica_notifications_consumer.engines.output import Output
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.files import list_files, open_file, read_note
from pacifica_notifications_consumer.jobs.unsent import describe_unsent
from pacifica_notifications_consumer.streams.progress import describe_progress, parse_progress
from tests.fuzz.good import Finding, Try
from tests.fuzz.mutation import spoil, spoil_json

_SECRET = "content of a file outside of the job"
_FOLDERS = ("progress", "incoming", "outgoing", "outgoing/uploads", "incoming/downloads", "outgoing/uploads/a")
#: The files that the runner reads or writes, each with a content that it expects.
_FILES = {
    "output.log": b"line\n" * 2000,
    "output.position": b"7.0123456789abcdef 12",
    "progress/progress.json": json.dumps(
        {"upload": {"bytes_done": 1, "bytes_total": 2, "files_done": 0, "files_total": 1}}
    ).encode(),
    "progress/failure.txt": b"the upload failed",
    "incoming/notification.json": b"{}",
    "outgoing/upload-1.jsonl": b'{"file": "a"}\n{"sent": 3}\n',
    "outgoing/uploads/a/b": b"x",
    "outgoing/beside": b"x",
}
_PLACES = (*_FOLDERS, *_FILES)


@contextlib.contextmanager
def job_files() -> Iterator[Try]:
    """What the runner does with a job's directory neither blocks, nor reads or changes anything outside of it."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary).resolve()
        elsewhere, job = home / "elsewhere", home / "jobs" / "7"

        def attempt(chance: random.Random) -> None:
            for folder in (job, elsewhere):
                shutil.rmtree(folder, ignore_errors=True)
            job.mkdir(parents=True)
            for name in ("notes", "progress.json", "failure.txt", "upload-2.jsonl", "notification.json", "uploads/a/b"):
                (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
                (elsewhere / name).write_text(f'{{"sent": 7}}\n{_SECRET}\n')
            before = _contents(elsewhere)
            for place in _PLACES:
                if chance.random() < 0.8:
                    _put(job, place, elsewhere, chance)
            said = _use(JobDirectory(job), chance)
            if _SECRET in said:
                raise Finding(f"it has read a file outside of the job: {said!r}")
            if _contents(elsewhere) != before:
                raise Finding("a file outside of the job has changed")

        yield attempt


def _contents(folder: Path) -> Mapping[str, bytes]:
    """The files below a folder. With the rights of the job's user, `prepare` may make folders where a link leads."""
    return {os.fspath(path): path.read_bytes() for path in folder.rglob("*") if not path.is_dir()}


def _put(job: Path, place: str, elsewhere: Path, chance: random.Random) -> None:
    """Put something in a place, often what is expected there; not below a file or a link."""
    path, good = job / place, _FILES.get(place, b"")
    if os.path.realpath(path.parent) != os.fspath(path.parent) or not path.parent.is_dir() or os.path.lexists(path):
        return
    kind = chance.random()
    if kind < 0.3:
        _put_special(path, elsewhere, chance)
    elif place in _FOLDERS:
        path.mkdir()
    elif kind < 0.45:
        path.write_bytes(spoil(good, chance, list(_FILES.values())))
    elif kind < 0.6 and path.suffix == ".json":
        path.write_bytes(spoil_json(good, chance))
    else:
        path.write_bytes(good)


def _put_special(path: Path, elsewhere: Path, chance: random.Random) -> None:
    """Put something other than a file in the place of one, or a file in the place of a folder."""
    match chance.randrange(7):
        case 0 | 1:
            path.symlink_to(elsewhere / chance.choice(("", path.name, "notes", "missing")))
        case 2:
            path.symlink_to(chance.choice((path, path.parent, Path("/dev/zero"), Path("/proc/self/mem"))))
        case 3:
            os.mkfifo(path)
        case 4:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as bound:
                bound.bind(os.fspath(path))
        case 5 if path.parent.name == "progress":
            # `read_note` refuses those; all other files are the user's own, whatever their names are.
            path.hardlink_to(elsewhere / "notes")
        case 5:
            path.mkdir()
        case _:
            path.write_bytes(chance.randbytes(20))


def _use(directory: JobDirectory, chance: random.Random) -> str:
    """Do everything that a runner, a worker and the status page do with a job's files; returns what they would show."""
    said: list[str] = []
    described: list[str] = []
    output = Output(directory.output, chance.choice((None, 0, 100, 5000)))

    def note() -> None:
        noted = read_note(directory.progress)
        said.extend((noted, describe_progress(parse_progress(noted))))
        said.append(read_note(directory.progress.with_name("failure.txt")))

    def write() -> None:
        with output.open() as file:
            file.write(b"printed\n")

    def copy() -> None:
        copied = OutputCopy(directory, chance.choice(("7.0123456789abcdef", "7.other")), 5000)
        copied.add(chance.choice((-1, 0, 5, 1 << 40)), b"copied\n")
        copied.finish()

    def show() -> None:
        files, _ = list_files(directory.path)
        for path in [file.path for file in files] + list(_PLACES) + ["../elsewhere/notes", "/etc/passwd", "a\0b"]:
            with contextlib.suppress(OSError), open_file(directory.path, path) as file:
                # The system lets users link only their own files, so they are files of the job.
                if os.fstat(file.fileno()).st_nlink == 1:
                    said.append(file.read(100).decode("utf-8", "replace"))

    tasks: list[Callable[[], object]] = [
        note,
        write,
        copy,
        show,
        output.trim,
        lambda: said.append(output.finish()),
        lambda: described.append(describe_unsent(directory)),
        lambda: directory.prepare(b"{}", ["a", "b/c"]),
    ]
    for task in chance.choices(tasks, k=12):
        with contextlib.suppress(OSError):
            task()
    if any(re.search(r"(?<!\d)-\d+ files? ", each) for each in described):
        raise Finding(f"it counts less than nothing: {described}")
    return "\n".join((*said, *described))
