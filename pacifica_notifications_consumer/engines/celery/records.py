"""AttemptRecords: the records in Redis through which the runner and the workers communicate about attempts.

Each record is a hash. The runner creates it before it hands the attempt out, and removes it when the result is in the
ledger. Only the first worker that claims the record may run the attempt, so a message that was sent or delivered twice
does no harm. The worker writes a heartbeat into the record; without heartbeats the attempt counts as lost.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Sequence
from typing import Any

import attrs
import redis

from ...errors import shown
from ...jobs.job import Ending, Fate, RemoteLocation

#: The error of `AttemptRecords`: Redis cannot be reached, or refuses.
RecordsError = redis.RedisError
_PREFIX = "pacifica-notifications-consumer:attempt:"
#: Seconds after the last write when Redis removes a record.
_KEPT = 30 * 86_400
#: The timeout of a request to Redis in seconds.
_PATIENCE = 5.0
#: The runner's claim, which withdraws an attempt.
_RUNNER = "runner"
#: The fields of an `Ending` with their types, which are checked because any client of Redis may have written them.
_ENDING = {
    "status": int | None,
    "reason": str,
    "remark": str,
    "cpu_seconds": int | float | None,
    "peak_memory": int | None,
    "output_tail": str,
}
#: The maximum numbers of characters of a field, and of what is shown of a sentence, a path, and the end of an output.
_LARGEST, _SENTENCE, _PATH, _TAIL = 1 << 20, 2000, 4096, 4000
#: The offset of output whose position is not known.
UNKNOWN = -1
_FIELDS = ("open", "claim", "beat", "news", "refused", "ending")


class Claim(enum.Enum):
    """The result of claiming an attempt."""

    OURS = "ours"
    #: A worker, or the runner, claimed it earlier.
    TAKEN = "taken"
    #: The runner has removed the record, because it does not wait for the attempt any more.
    GONE = "gone"


@attrs.frozen(kw_only=True)
class AttemptView:
    """The state of an attempt according to its record."""

    #: Whether the record exists.
    opened: bool
    #: None until a worker has claimed the attempt.
    place: RemoteLocation | None = None
    #: Whether the runner has claimed it, so that no worker runs it.
    withdrawn: bool = False
    #: Two values that change as long as the worker is alive, and with the progress or the output.
    beat: str = ""
    news: str = ""
    #: The reason why a worker refused it; empty otherwise.
    refused: str = ""
    ending: Ending | None = None


@attrs.frozen(kw_only=True)
class News:
    """The progress (in JSON) of a running attempt, and the last bytes of its output."""

    progress: str = ""
    #: The offset of the output in bytes; `UNKNOWN` if the output has been trimmed since.
    output_start: int = 0
    output: bytes = b""


class AttemptRecords:
    """The records in one Redis; all methods raise `RecordsError` when it cannot be reached, or refuses."""

    def __init__(self, url: str) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            encoding_errors="replace",
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            health_check_interval=30,
        )

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def ping(self) -> None:
        """Check that Redis can be reached."""
        self._redis.ping()

    def open(self, task: str) -> None:
        """Create a record; workers claim only attempts with a record."""
        self._put(task, "open", "1")

    def claim(self, task: str, place: RemoteLocation, delivery: str) -> Claim:
        """Claim an attempt for a worker; the random id of the delivery lets a worker claim it once in two tries."""
        return self._claim(task, json.dumps(attrs.asdict(place) | {"delivery": delivery}))

    def withdraw(self, task: str) -> Claim:
        """Claim an attempt for the runner, so that no worker starts it; `Claim.TAKEN` if a worker has claimed it."""
        return self._claim(task, _RUNNER)

    def _claim(self, task: str, claimant: str) -> Claim:
        # In a transaction, so that a record that was removed in between is noticed, and removed again.
        with self._redis.pipeline() as pipe:
            pipe.hsetnx(_PREFIX + task, "claim", claimant)
            pipe.hmget(_PREFIX + task, "open", "claim")
            opened, claim = _found(pipe.execute(raise_on_error=False)[1]) or (None, None)
        if not opened:
            self.forget(task)
            return Claim.GONE
        # Compare the values: if the answer to our claim was lost, our second claim finds the first.
        return Claim.OURS if claim == claimant else Claim.TAKEN

    def abandon(self, task: str) -> bool:
        """Withdraw an attempt, or ask the worker that has claimed it to end it; returns whether a worker has."""
        if self.withdraw(task) is Claim.TAKEN:
            self._put(task, "cancel", "1")
            return True
        self.forget(task)
        return False

    def refuse(self, task: str, reason: str) -> None:
        """Record that a worker refuses to run an attempt."""
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
        """Read the states of attempts, in the order of their names."""
        with self._redis.pipeline(transaction=False) as pipe:
            for task in tasks:
                pipe.hmget(_PREFIX + task, *_FIELDS)
            answers = pipe.execute(raise_on_error=False)
        return [_look(_found(answer)) for answer in answers]

    def news(self, task: str) -> News:
        """Read the progress and new output of a running attempt."""
        fields = self._redis.hmget(_PREFIX + task, "progress", "output_start", "output")
        return _news(*(str(field or "") for field in fields))

    def beat(self, beats: Sequence[Heartbeat]) -> list[bool]:
        """Write heartbeats; returns which attempts may go on: not if cancelled, or if the record was removed."""
        with self._redis.pipeline() as pipe:
            for beat in beats:
                key = _PREFIX + beat.task
                pipe.hset(key, mapping=beat.fields())
                pipe.expire(key, _KEPT)
                pipe.hmget(key, "open", "cancel")
            answers = [_found(answer) or (None, None) for answer in pipe.execute(raise_on_error=False)[2::3]]
        for beat, (opened, _) in zip(beats, answers, strict=True):
            if not opened:
                # The runner had removed the record, and this heartbeat has just created it again.
                self.forget(beat.task)
        return [bool(opened) and not cancelled for opened, cancelled in answers]


@attrs.frozen(kw_only=True)
class Heartbeat:
    """A heartbeat of an attempt, with new progress or output; its number differs from that of the last one."""

    task: str
    number: int
    news: News | None = None
    ending: Ending | None = None

    def fields(self) -> dict[Any, Any]:
        """The fields of the record that the heartbeat changes."""
        fields = {"beat": str(self.number)}
        if self.news:
            fields |= {
                "news": str(self.number),
                "progress": self.news.progress,
                "output_start": str(self.news.output_start),
                "output": base64.b64encode(self.news.output).decode("ascii"),
            }
        if self.ending:
            fields["ending"] = json.dumps(attrs.asdict(self.ending) | {"fate": self.ending.fate.value})
        return fields


def _found(answer: Any) -> Any:
    """The fields of a record; None if something else has been put in its place, which then counts as missing."""
    if not isinstance(answer, Exception):
        return None if any(len(field or "") > _LARGEST for field in answer) else answer
    if "WRONGTYPE" in str(answer):
        return None
    raise answer


def _look(fields: Any) -> AttemptView:
    try:
        opened, claim, beat, news, refused, ending = fields
        return AttemptView(
            opened=bool(opened),
            place=_place(claim),
            withdrawn=claim == _RUNNER,
            beat=beat or "",
            news=news or "",
            refused=shown(refused or "", _SENTENCE),
            ending=_ending(ending) if ending else None,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        # A program of another version, or an attacker, wrote the record: treat it as missing.
        return AttemptView(opened=False)


def _news(progress: str, start: str, output: str) -> News:
    try:
        if max(len(progress), len(output)) > _LARGEST:
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
    return RemoteLocation(worker=shown(str(document["worker"])), directory=shown(str(document["directory"]), _PATH))


def _ending(text: str) -> Ending:
    document = json.loads(text)
    for name, kinds in _ENDING.items():
        if not isinstance(document[name], kinds):
            raise TypeError(name)
    # Also NaN is not less.
    if not all(abs(document[name] or 0) < 1 << 62 for name in ("status", "cpu_seconds", "peak_memory")):
        raise ValueError("the ending has a number that makes no sense")
    texts = {name: shown(document[name], _SENTENCE) for name in ("reason", "remark")}
    texts["output_tail"] = document["output_tail"][-_TAIL:]
    return Ending(**(document | texts | {"fate": Fate(document["fate"])}))
