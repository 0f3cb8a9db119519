"""The progress of downloads and uploads.

It is reported to the callback if there is one; otherwise written to a file for the runner, shown on the terminal, or
logged.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from ..settings.converters import describe_size
from ..settings.option import PREFIX
from ..system.files import replacing
from ..system.terminal import is_terminal, show_progress

log = logging.getLogger(__name__)

#: Called with the bytes done, the total bytes, the files done, and the total files.
ProgressCallback = Callable[[int, int, int, int], object]

#: The environment variable, set by the runner, with the file to which the process writes its progress.
PROGRESS_VARIABLE = PREFIX + "PROGRESS_FILE"

#: The name of the file beside it with the error of this project that ended the process.
FAILURE = "failure.txt"

_SHOW_SECONDS, _NOTE_SECONDS, _LOG_SECONDS = 0.1, 0.5, 30.0


@attrs.frozen(kw_only=True)
class Progress:
    """The progress of one or several transfers.

    Args:
        bytes_done: Number of transferred bytes, verified or not.
        bytes_total: Number of all bytes.
        files_done: Number of transferred and verified files.
        files_total: Number of all files.
    """

    bytes_done: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))
    bytes_total: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))
    files_done: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))
    files_total: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))

    def __add__(self, other: Progress) -> Progress:
        mine, others = attrs.astuple(self), attrs.astuple(other)
        return Progress(**dict(zip(_FIELDS, (a + b for a, b in zip(mine, others, strict=True)), strict=True)))

    def __str__(self) -> str:
        percent = f"{100 * self.bytes_done // self.bytes_total} % of " if self.bytes_total else ""
        return f"{percent}{describe_size(self.bytes_total)}, {self.files_done} of {self.files_total} files"


_FIELDS = tuple(field.name for field in attrs.fields(Progress))


def note_failure(error: Exception) -> None:
    """Write the error that ends this process to a file beside the progress, for the runner."""
    # Programs that the entry-point starts have the variable, too, but do not lead its session.
    if (path := os.environ.get(PROGRESS_VARIABLE)) and os.getsid(0) == os.getpid():
        with contextlib.suppress(Exception):  # the error may be of the script's own kind, and fail to be a text
            Path(path).with_name(FAILURE).write_text(str(error), encoding="utf-8", errors="replace")


def parse_progress(noted: str | bytes) -> dict[str, Progress]:
    """Parse the progress of the ``download`` and the ``upload`` that a process has begun; empty if it is malformed."""
    # The entry-point can write any content to the file.
    try:
        found = {what: Progress(**numbers) for what, numbers in json.loads(noted).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}
    possible = all(0 <= number < 1 << 63 for each in found.values() for number in attrs.astuple(each))
    return found if possible and found.keys() <= {"download", "upload"} else {}


def describe_progress(progress: Mapping[str, Progress]) -> str:
    """Describe the progress of a process in one line."""
    return "; ".join(f"{what} {how_far}" for what, how_far in progress.items())


class TransferMeter:
    """Counts the bytes and files of one transfer, ``download`` or ``upload``; may be used by several threads.

    The callback gets the progress at most ten times a second, and at the end. Without one, the progress is written to
    the runner's file, shown on the terminal, or logged.
    """

    def __init__(self, what: str, bytes_total: int, files_total: int, callback: ProgressCallback | None) -> None:
        self.what = what
        self._lock = threading.Lock()
        self._numbers = [0, bytes_total, 0, files_total]
        self._callback = callback
        self._next_report = 0.0
        if callback is None:
            _display.add(self)

    def __enter__(self) -> TransferMeter:
        self._report()
        return self

    def __exit__(self, *_: object) -> None:
        self._report()
        if self._callback is None:
            _display.remove(self)

    @property
    def progress(self) -> Progress:
        """The progress of the transfer."""
        with self._lock:
            return Progress(**dict(zip(_FIELDS, self._numbers, strict=True)))

    def advance(self, size: int, files: int = 0) -> None:
        """Count transferred bytes and whole files; negative for bytes that must be transferred again."""
        with self._lock:
            self._numbers[0] += size
            self._numbers[2] += files
        if time.monotonic() >= self._next_report:
            self._report()

    def restart(self) -> None:
        """Start counting from zero, since the transfer starts again."""
        with self._lock:
            self._numbers[0] = self._numbers[2] = 0

    def _report(self) -> None:
        self._next_report = time.monotonic() + _SHOW_SECONDS
        if self._callback is None:
            _display.show()
        else:
            self._callback(*attrs.astuple(self.progress))


class _Display:
    """Shows the progress of all transfers of the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._meters: list[TransferMeter] = []
        self._ended: dict[str, Progress] = {}
        self._next_note = self._next_log = 0.0
        self._began = 0.0

    def add(self, meter: TransferMeter) -> None:
        with self._lock:
            if not self._meters:
                self._began = time.monotonic()
                self._next_log = self._began + _LOG_SECONDS
            self._meters.append(meter)

    def remove(self, meter: TransferMeter) -> None:
        with self._lock:
            self._meters.remove(meter)
            self._ended[meter.what] = self._ended.get(meter.what, Progress()) + meter.progress
            self._note(os.environ.get(PROGRESS_VARIABLE))
            if not self._meters:
                show_progress("")

    def show(self) -> None:
        now = time.monotonic()
        with self._lock:
            if path := os.environ.get(PROGRESS_VARIABLE):
                if now >= self._next_note:
                    self._next_note = now + _NOTE_SECONDS
                    self._note(path)
            elif is_terminal(sys.stderr):
                show_progress(f"{describe_progress(self._sums({}))}{self._speed(now)}")
            elif now >= self._next_log:
                self._next_log = now + _LOG_SECONDS
                log.info("%s%s", describe_progress(self._sums({})), self._speed(now))

    def _sums(self, ended: Mapping[str, Progress]) -> dict[str, Progress]:
        """How far all running transfers are together with some that have ended."""
        sums = dict(ended)
        for meter in self._meters:
            sums[meter.what] = sums.get(meter.what, Progress()) + meter.progress
        return sums

    def _speed(self, now: float) -> str:
        done = sum(meter.progress.bytes_done for meter in self._meters)
        return f", {describe_size(int(done / (now - self._began)))}/s" if now > self._began and done else ""

    def _note(self, path: str | None) -> None:
        if not path:
            return
        noted = json.dumps({what: attrs.asdict(each) for what, each in self._sums(self._ended).items()})
        # Replaced as a whole, since the runner may read it at any time. An error must not fail the transfer.
        with contextlib.suppress(OSError), replacing(Path(path)) as file:
            file.write(noted.encode("ascii"))


_display = _Display()
