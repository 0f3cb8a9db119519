"""The reporter: one thread of a worker that shows that its attempts are being run, and tells the news of them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence

import attrs

from ...jobs.directory import JobDirectory
from ...jobs.job import Ending
from ...streams.progress import read_progress
from ...system.periodic import Periodic
from ..engine import Stop
from .records import UNKNOWN, AttemptRecords, Heartbeat, News, RecordsError

log = logging.getLogger(__name__)

#: Seconds between two signs of life, and which part of the time that is granted.
_BEAT, _BEATS = 1.0, 12
#: After which part of that time without an answer an attempt is ended, so that it has ended before it counts as lost.
_GIVE_UP = 0.5
#: The most bytes of an output that are told at once.
_PIECE = 1 << 16


@attrs.define(eq=False)
class ReportedAttempt:
    """What is told of an attempt.

    Args:
        task: The attempt.
        directory: Where it is run.
        heard_at: When the runner was last told that it is being run.
    """

    task: str
    directory: JobDirectory
    heard_at: float
    #: Why it is to be ended; None as long as it may go on.
    stop: Stop | None = attrs.field(default=None, init=False)
    #: How it ended; None before that.
    ending: Ending | None = attrs.field(default=None, init=False)
    #: The longest time, in seconds, for which nothing could be told.
    silence: float = attrs.field(default=0.0, init=False)
    #: Set when nobody has to be told any more.
    told: threading.Event = attrs.field(factory=threading.Event, init=False)
    _progress: str = attrs.field(default="", init=False)
    _told_to: int = attrs.field(default=0, init=False)

    def news(self) -> News | None:
        """What is new since it was asked last; None if nothing is."""
        progress = read_progress(self.directory.progress) or self._progress
        start, piece = self._new_output()
        if progress == self._progress and not piece:
            return None
        self._progress = progress
        return News(progress=progress, output_start=start, output=piece)

    def _new_output(self) -> tuple[int, bytes]:
        with contextlib.suppress(OSError), self.directory.output.open("rb") as file:
            size = file.seek(0, 2)
            if size == self._told_to:
                return 0, b""
            # With what was told before: the runner may have missed that.
            start = max(0, size - _PIECE)
            file.seek(start)
            was_cut = size < self._told_to
            self._told_to = size
            return UNKNOWN if was_cut else start, file.read(size - start)
        return 0, b""

    def repeat(self) -> None:
        """Tell once more what may not have been heard."""
        self._told_to, self._progress = 0, ""


class Reporter(Periodic):
    """Tells of attempts until they have ended.

    Args:
        records: Where it is told.
        lost_after: Seconds after which an attempt of which nothing is heard counts as lost.
        on_contact: Called each time when all is told.
    """

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
        """Begin to tell of an attempt.

        Args:
            task: The attempt.
            directory: Where it is run.
            claimed_at: When the claim to it was asked for, on the clock of `time.monotonic`.
        """
        report = ReportedAttempt(task, directory, claimed_at)
        with self._lock:
            self._reports.append(report)
        return report

    def was_cut_off(self, report: ReportedAttempt) -> bool:
        """Whether an attempt could not be heard of for so long that others may have ended it."""
        return max(report.silence, time.monotonic() - report.heard_at) > self._patience

    def end(self, report: ReportedAttempt, ending: Ending, gone: Callable[[], bool]) -> bool:
        """Tell how an attempt ended, for as long as it takes.

        Args:
            report: What was told of it.
            ending: How it ended.
            gone: Says when it is not to be tried any longer.

        Returns:
            Whether it was told, or nobody wants to know.
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
                log.error("nothing can be told of running jobs: %s", error)  # noqa: TRY400
            self._cut_off = True
            for report in reports:
                report.repeat()
        finally:
            self._give_up(reports)

    def _tell(self, reports: Sequence[ReportedAttempt], began: float) -> None:
        beats = [self._beat(report) for report in reports]
        go_on = self._records.beat(beats) if beats else []
        if self._cut_off:
            log.warning("the runner can be told of running jobs again")
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
        # First the ending: what comes after it would otherwise be missed.
        ending = report.ending
        return Heartbeat(task=report.task, number=next(self._numbers), news=report.news(), ending=ending)

    def _give_up(self, reports: Sequence[ReportedAttempt]) -> None:
        """End attempts before others count them as lost, and run them once more."""
        for report in reports:
            if not report.stop and not report.ending and time.monotonic() - report.heard_at > self._patience:
                log.error("attempt %s is ended: nobody can be told that it is being run", report.task)
                report.stop = Stop.HALT
