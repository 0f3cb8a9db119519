"""Records in Redis by which the runner and the workers tell each other how attempts stand.

Each is a hash of a few fields. The runner opens it before it hands the attempt out, and removes it when the result is
in its ledger. Whoever claims it first, and alone, may run the attempt; so that a message that a broker delivers twice,
or that was sent twice to be sure, does no harm. A worker that runs one writes into it again and again; when that stops,
it counts as lost.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Sequence
from typing import Any

import attrs
import redis

from ...jobs.job import Ending, Fate, RemoteLocation

#: What the methods of a `AttemptRecords` raise when Redis cannot be reached, or refuses.
RecordsError = redis.RedisError
_PREFIX = "pacifica-notifications-consumer:attempt:"
#: Seconds for which a record is kept that nobody touches.
_KEPT = 30 * 86_400
#: Seconds that an answer may take.
_PATIENCE = 5.0
#: What stands in a claim of the runner's.
_RUNNER = "runner"
#: What an ending consists of; that it is so, nobody says but who wrote it.
_ENDING = {
    "status": int | None,
    "reason": str,
    "cpu_seconds": int | float | None,
    "peak_memory": int | None,
    "output_tail": str,
}
#: The most characters of what a worker tells at once.
_LARGEST_NEWS = 1 << 20
#: A place in an output that nobody knows.
UNKNOWN = -1
_FIELDS = ("open", "claim", "beat", "news", "refused", "ending")


class Claim(enum.Enum):
    """What came of the wish to claim an attempt."""

    OURS = "ours"
    #: Somebody else has it.
    TAKEN = "taken"
    #: Nobody waits for it any more.
    GONE = "gone"


@attrs.frozen(kw_only=True)
class AttemptView:
    """How an attempt stands.

    Args:
        opened: Whether there is a record.
        place: Where it is run; None until a worker has claimed it.
        withdrawn: Whether it has been claimed so that no worker runs it.
        beat: Changes as long as its worker is alive.
        news: Changes when there is something new about its progress or output.
        refused: Why a worker will not run it; empty if none said so.
        ending: How it ended; None before that.
    """

    opened: bool
    place: RemoteLocation | None = None
    withdrawn: bool = False
    beat: str = ""
    news: str = ""
    refused: str = ""
    ending: Ending | None = None


@attrs.frozen(kw_only=True)
class News:
    """What a running attempt has to tell.

    Args:
        progress: What it noted of its downloads and uploads, in JSON.
        output_start: Where in its output the following bytes begin; `UNKNOWN` if it has been cut since.
        output: The last bytes of its output, as far as they may be new.
    """

    progress: str = ""
    output_start: int = 0
    output: bytes = b""


class AttemptRecords:
    """The records.

    Args:
        url: The Redis that keeps them.

    Raises:
        RecordsError: Redis cannot be reached, or refuses; all methods raise it.
    """

    def __init__(self, url: str) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            health_check_interval=30,
        )

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def ping(self) -> None:
        """Find out whether it can be reached."""
        self._redis.ping()

    def open(self, task: str) -> None:
        """Make a record; a worker will take nothing that has none."""
        self._put(task, "open", "1")

    def claim(self, task: str, place: RemoteLocation, delivery: str) -> Claim:
        """Claim an attempt for a worker.

        Args:
            task: The attempt.
            place: Where it is going to be run.
            delivery: Names the message: one that comes twice must not be taken for the same, even by one worker.
        """
        return self._claim(task, json.dumps(attrs.asdict(place) | {"delivery": delivery}))

    def withdraw(self, task: str) -> Claim:
        """Claim an attempt for nobody, so that no worker begins it; `Claim.TAKEN` if one has."""
        return self._claim(task, _RUNNER)

    def _claim(self, task: str, who: str) -> Claim:
        # In a transaction, so that a record that was removed in between does not come to life again.
        with self._redis.pipeline() as pipe:
            pipe.hsetnx(_PREFIX + task, "claim", who)
            pipe.hmget(_PREFIX + task, "open", "claim")
            _, (opened, claim) = pipe.execute()
        if not opened:
            self.forget(task)
            return Claim.GONE
        # An answer that was lost on its way must not make us believe that somebody else was it.
        return Claim.OURS if claim == who else Claim.TAKEN

    def cancel(self, task: str) -> None:
        """Have the worker end an attempt that it has claimed; harmless if there is none."""
        self._put(task, "cancel", "1")

    def refuse(self, task: str, reason: str) -> None:
        """Say that a worker will not run an attempt."""
        self._put(task, "refused", reason)

    def _put(self, task: str, field: str, value: str) -> None:
        with self._redis.pipeline() as pipe:
            pipe.hset(_PREFIX + task, field, value)
            pipe.expire(_PREFIX + task, _KEPT)
            pipe.execute()

    def forget(self, task: str) -> None:
        """Remove a record."""
        self._redis.delete(_PREFIX + task)

    def look(self, tasks: Sequence[str]) -> list[AttemptView]:
        """See how attempts stand, in their order."""
        with self._redis.pipeline(transaction=False) as pipe:
            for task in tasks:
                pipe.hmget(_PREFIX + task, *_FIELDS)
            return [_look(fields) for fields in pipe.execute()]

    def news(self, task: str) -> News:
        """What a running attempt has to tell."""
        fields = self._redis.hmget(_PREFIX + task, "progress", "output_start", "output")
        return _news(*(str(field or "") for field in fields))

    def beat(self, beats: Sequence[Heartbeat]) -> list[bool]:
        """Show that attempts are being run, and tell the news of them.

        Returns:
            For each whether it is to go on: not if it was cancelled, or nobody waits for it any more.
        """
        with self._redis.pipeline() as pipe:
            for beat in beats:
                key = _PREFIX + beat.task
                pipe.hset(key, mapping=beat.fields())
                pipe.expire(key, _KEPT)
                pipe.hmget(key, "open", "cancel")
            answers = pipe.execute()[2::3]
        for beat, (opened, _) in zip(beats, answers, strict=True):
            if not opened:
                # It has been removed, and we have just made it anew.
                self.forget(beat.task)
        return [bool(opened) and not cancelled for opened, cancelled in answers]


@attrs.frozen(kw_only=True)
class Heartbeat:
    """A sign of life of an attempt.

    Args:
        task: The attempt.
        number: Another one each time.
        news: What is new; None if nothing is.
        ending: How it ended; None before that.
    """

    task: str
    number: int
    news: News | None = None
    ending: Ending | None = None

    def fields(self) -> dict[Any, Any]:
        """What is to be written."""
        fields = {"beat": str(self.number)}
        if self.news:
            fields["news"] = str(self.number)
            fields["progress"] = self.news.progress
            fields["output_start"] = str(self.news.output_start)
            fields["output"] = base64.b64encode(self.news.output).decode("ascii")
        if self.ending:
            fields["ending"] = json.dumps(attrs.asdict(self.ending) | {"fate": self.ending.fate.value})
        return fields


def _look(fields: Sequence[str | None]) -> AttemptView:
    opened, claim, beat, news, refused, ending = fields
    try:
        return AttemptView(
            opened=bool(opened),
            place=_place(claim),
            withdrawn=claim == _RUNNER,
            beat=beat or "",
            news=news or "",
            refused=refused or "",
            ending=_ending(ending) if ending else None,
        )
    except (ValueError, TypeError, KeyError):
        # It is of another version, or somebody's idea of a joke; then it is none.
        return AttemptView(opened=False)


def _news(progress: str, start: str, output: str) -> News:
    try:
        if max(len(progress), len(output)) > _LARGEST_NEWS:
            return News()
        return News(
            progress=progress, output_start=int(start or 0), output=base64.b64decode(output or "", validate=True)
        )
    except ValueError:
        return News()


def _place(claim: str | None) -> RemoteLocation | None:
    if not claim or claim == _RUNNER:
        return None
    document: dict[str, Any] = json.loads(claim)
    return RemoteLocation(worker=str(document["worker"]), directory=str(document["directory"]))


def _ending(text: str) -> Ending:
    document = json.loads(text)
    for name, kinds in _ENDING.items():
        if not isinstance(document[name], kinds):
            raise TypeError(name)
    return Ending(**(document | {"fate": Fate(document["fate"])}))
