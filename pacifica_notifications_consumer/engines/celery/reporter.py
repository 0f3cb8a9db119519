"""Reporter: a thread of a worker that writes the heartbeats, progress and output of its attempts into their records."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence

import attrs

from ...jobs.directory import JobDirectory
from ...jobs.files import open_file, read_note
from ...jobs.job import Ending
from ...system.periodic import Periodic
from ..engine import Stop
from .records import UNKNOWN, AttemptRecords, Heartbeat, News, RecordsError

log = logging.getLogger(__name__)

#: The interval of heartbeats: this number of seconds, or, if shorter, this fraction of `Broker.lost_after`.
_BEAT, _BEATS = 1.0, 12
#: The fraction of `Broker.lost_after` without contact to Redis after which an attempt is ended, not yet lost.
_GIVE_UP = 0.5
#: The maximum number of bytes of output in one heartbeat.
_PIECE = 1 << 16


@attrs.define(eq=False)
class ReportedAttempt:
    """A running attempt, as far as its runner knows about it."""

    task: str
    directory: JobDirectory
    #: The time of the last heartbeat that Redis received, on the clock of `time.monotonic`.
    heard_at: float
    #: The reason to end it; None as long as it may go on.
    stop: Stop | None = attrs.field(default=None, init=False)
    #: The result; None before the end.
    ending: Ending | None = attrs.field(default=None, init=False)
    #: The longest time between two heartbeats in seconds.
    silence: float = attrs.field(default=0.0, init=False)
    #: Set when the record has the result.
    told: threading.Event = attrs.field(factory=threading.Event, init=False)
    _progress: str = attrs.field(default="", init=False)
    _told_to: int = attrs.field(default=0, init=False)

    def news(self) -> News | None:
        """The changes since the last call; None without any."""
        progress = read_note(self.directory.progress) or self._progress
        start, piece = self._new_output()
        if progress == self._progress and not piece:
            return None
        self._progress = progress
        return News(progress=progress, output_start=start, output=piece)

    def _new_output(self) -> tuple[int, bytes]:
        output = self.directory.output
        with contextlib.suppress(OSError), open_file(output.parent, output.name) as file:
            size, told_to = file.seek(0, 2), self._told_to
            if size != told_to:
                self._told_to = size
                # Include output of earlier heartbeats, because the runner does not read each of them.
                start = file.seek(max(0, size - _PIECE))
                return UNKNOWN if size < told_to else start, file.read(size - start)
        return 0, b""

    def repeat(self) -> None:
        """Let the next heartbeat contain progress and output that may have been lost."""
        self._told_to, self._progress = 0, ""


class Reporter(Periodic):
    """Writes heartbeats of attempts until they have ended, and calls ``on_contact`` after each successful write."""

    def __init__(self, records: AttemptRecords, lost_after: float, on_contact: Callable[[], None]) -> None:
        self._records = records
        self._pause = min(_BEAT, lost_after / _BEATS)
        self._patience = lost_after * _GIVE_UP
        self._on_contact = on_contact
        self._reports: list[ReportedAttempt] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._cut_off = False
        super().__init__(self._report, name="reporter", interval=self._pause)

    def begin(self, task: str, directory: JobDirectory, claimed_at: float) -> ReportedAttempt:
        """Start the heartbeats of an attempt that was claimed at a time on the clock of `time.monotonic`."""
        with self._lock:
            self._reports.append(report := ReportedAttempt(task, directory, claimed_at))
        return report

    def was_cut_off(self, report: ReportedAttempt) -> bool:
        """Whether the heartbeats of an attempt paused for so long that the watchdog may have ended it."""
        return max(report.silence, time.monotonic() - report.heard_at) > self._patience

    def end(self, report: ReportedAttempt, ending: Ending, gone: Callable[[], bool]) -> bool:
        """Write the result of an attempt, and try until that succeeds, or until ``gone`` returns True.

        Returns whether the result was written, or the runner had removed the record.
        """
        report.ending = ending
        self.wake()
        while not report.told.wait(self._pause) and not gone():
            pass
        with self._lock:
            self._reports.remove(report)
        return report.told.is_set()

    def _report(self) -> None:
        with self._lock:
            reports = list(self._reports)
        try:
            self._tell(reports, time.monotonic())
        except RecordsError as error:
            if not self._cut_off:
                log.error("the states of running jobs cannot be reported: %s", error)  # noqa: TRY400
            self._cut_off = True
            for report in reports:
                report.repeat()
        finally:
            self._give_up(reports)

    def _tell(self, reports: Sequence[ReportedAttempt], began: float) -> None:
        beats = [self._beat(report) for report in reports]
        go_on = self._records.beat(beats) if beats else []
        if self._cut_off:
            log.warning("the states of running jobs can be reported again")
        self._cut_off = False
        self._on_contact()
        for report, beat, wanted in zip(reports, beats, go_on, strict=True):
            report.silence = max(report.silence, began - report.heard_at)
            report.heard_at = began
            if beat.ending:
                report.told.set()
            elif not wanted:
                report.stop = Stop.CANCEL

    def _beat(self, report: ReportedAttempt) -> Heartbeat:
        # Read the ending before the news: news of an attempt that has ended is then complete.
        ending = report.ending
        return Heartbeat(task=report.task, number=next(self._numbers), news=report.news(), ending=ending)

    def _give_up(self, reports: Sequence[ReportedAttempt]) -> None:
        """End attempts before they count as lost and are run again by other workers."""
        for report in reports:
            if not report.stop and not report.ending and time.monotonic() - report.heard_at > self._patience:
                log.error("attempt %s is ended: its heartbeats cannot be written", report.task)
                report.stop = Stop.HALT
