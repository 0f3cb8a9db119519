"""Triage gives each notification the right verdict, and the same one in this process and in another."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY
from pacifica_notifications_consumer.errors import NotificationError
from pacifica_notifications_consumer.jobs import readers as readers_module
from pacifica_notifications_consumer.jobs.job import Verdict
from pacifica_notifications_consumer.jobs.readers import Readers
from pacifica_notifications_consumer.jobs.triage import Triage
from tests.support.faults import FailingFilter

FILTER = Filter('$["data"][*][?(@["mimetype"] = "text/plain")]')
TRIAGE = Triage(name="mine", filter=FILTER)
STRICT = Triage(name="mine", strict=True)


def event(*rows: dict[str, Any], **changes: object) -> bytes:
    whole = {"cloudEventsVersion": "0.1", "eventType": "t", "source": "s", "eventID": "e", "data": list(rows)}
    return json.dumps({name: value for name, value in (whole | changes).items() if value is not None}).encode()


def nested(depth: int) -> bytes:
    """An event whose objects and arrays are nested this deep."""
    value: object = []
    for number in range(depth - 2):
        value = {"a": value} if number % 2 else [value]
    return event(extensions={}, data=value)


TEXT = {"destinationTable": "Files", "subdir": "a/b", "mimetype": "text/plain"}
OWN = {"destinationTable": "TransactionKeyValue", "key": PROVENANCE_KEY, "value": "mine"}
FLAT = Triage(name="mine", max_depth=3)
CASES = [
    (TRIAGE, event(TEXT), Verdict.MATCHED, ""),
    (TRIAGE, event({}), Verdict.UNMATCHED, ""),
    (TRIAGE, event(TEXT, OWN), Verdict.OWN, ""),
    (Triage(name="mine"), event(), Verdict.MATCHED, ""),
    (TRIAGE, event(TEXT, extensions={"expirytime": "2020-01-01T00:00:00Z"}), Verdict.EXPIRED, ""),
    (TRIAGE, event(TEXT, extensions={"expirytime": "2999-01-01T00:00:00Z"}), Verdict.MATCHED, ""),
    (Triage(name="mine", filter=FailingFilter()), event({}), Verdict.UNDECIDABLE, "failed on this event"),
    (TRIAGE, b"", Verdict.UNREADABLE, "is empty"),
    (TRIAGE, b"{", Verdict.UNREADABLE, "is not JSON"),
    (TRIAGE, b"\xff{}", Verdict.UNREADABLE, "is not JSON"),
    (TRIAGE, b"[" * 100_000, Verdict.UNREADABLE, "is nested too deeply; make it flatter"),
    (TRIAGE, b'{"a": ' + b"9" * 5000 + b"}", Verdict.UNREADABLE, "has a number of too many digits; send such"),
    (TRIAGE, b"[]", Verdict.MALFORMED, "is a JSON array"),
    (TRIAGE, b"null", Verdict.MALFORMED, "is a JSON null"),
    (STRICT, event(), Verdict.MATCHED, ""),
    (STRICT, event(source=None, eventID=5), Verdict.MALFORMED, "lacks source and eventID"),
    # It has an identity, but must not make a later, valid one a duplicate.
    (STRICT, event(eventType=None), Verdict.MALFORMED, "lacks eventType"),
    (FLAT, event({}), Verdict.MATCHED, ""),
    (FLAT, event({}, extensions={"a": "[[[{{{"}), Verdict.MATCHED, ""),
    (FLAT, event({"a": []}, extensions={"a": "]}]}"}), Verdict.MALFORMED, "nested more than 3 deep"),
    (FLAT, event({"a": []}), Verdict.MALFORMED, "nested more than 3 deep; make it flatter, or raise `max_depth`"),
    (Triage(name="mine", max_depth=4), event({"a": []}), Verdict.MATCHED, ""),
    (TRIAGE, nested(100), Verdict.UNMATCHED, ""),
    (TRIAGE, nested(101), Verdict.MALFORMED, "nested more than 100 deep"),
]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every body as a large one."""
    monkeypatch.setattr(readers_module, "_LARGE", 0)


@pytest.mark.parametrize(("triage", "body", "verdict", "reason"), CASES)
def test_verdicts(triage: Triage, body: bytes, verdict: Verdict, reason: str) -> None:
    """Each notification gets the expected verdict and reason."""
    decision = triage.decide(body)
    assert decision.verdict is verdict
    assert (reason in decision.reason) and bool(reason) == bool(decision.reason)
    nameless = verdict in (Verdict.MALFORMED, Verdict.UNREADABLE)
    assert (decision.source, decision.event_id) == ((None, None) if nameless else ("s", "e"))


@pytest.mark.whole
@pytest.mark.usefixtures("large")
def test_another_process_says_the_same() -> None:
    """Triage in another process gives the same decisions."""
    for triage in {id(triage): triage for triage, *_ in CASES}.values():
        with closing(Readers(triage)) as readers:
            for _, body, *_ in CASES:
                assert readers.decide(body) == triage.decide(body)


@pytest.mark.usefixtures("large")
def test_folders_of_a_large_notification() -> None:
    """Another process returns the folders of a notification, and its error for a folder that leads outside."""
    with closing(Readers(TRIAGE)) as readers:
        assert readers.folders(event(TEXT)) == {"a/b"}
        with pytest.raises(NotificationError, match="not a plain path"):
            readers.folders(event({"destinationTable": "Files", "subdir": "../../outside"}))


@pytest.mark.usefixtures("large")
def test_reader_that_is_killed() -> None:
    """If a reader process dies, this process parses the notification, and a new reader the next one."""
    with closing(Readers(TRIAGE)) as readers:
        readers.decide(event(TEXT))
        (reader,) = readers._idle
        reader._popen.kill()
        reader._popen.wait()
        assert readers.decide(event(TEXT)).verdict is Verdict.MATCHED
        assert len(readers._idle) == 0
        readers.decide(event(TEXT))
        assert len(readers._idle) == 1


@pytest.mark.usefixtures("large")
def test_many_ask_at_once() -> None:
    """Concurrent callers get their own answers from a bounded number of reader processes, all of which end."""
    answers: dict[int, str | None] = {}
    with closing(Readers(TRIAGE)) as readers:

        def ask(number: int) -> None:
            for turn in range(5):
                answers[number * 5 + turn] = readers.decide(event(eventID=f"{number * 5 + turn}")).event_id

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        processes = [reader._popen for reader in readers._idle]
    assert answers == {number: str(number) for number in range(80)}
    assert 1 <= len(processes) <= readers_module._PROCESSES
    assert all(process.returncode is not None for process in processes)


@pytest.fixture
def huge() -> Iterator[bytes]:
    yield event(*[TEXT | {"name": f"file {number}"} for number in range(100_000)])


def test_large_notification_does_not_block(huge: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notification of 100,000 files is not parsed in this process, where that would block the other threads."""

    def parse(*_: object, **__: object) -> None:
        pytest.fail("it is parsed here")

    monkeypatch.setattr(json, "loads", parse)
    monkeypatch.setattr(Triage, "decide", parse)
    with closing(Readers(TRIAGE)) as readers:
        assert readers.decide(huge).verdict is Verdict.MATCHED


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="the test waits for its end with waitid")
@pytest.mark.usefixtures("large")
def test_reader_that_dies_at_its_start(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """If a reader process dies before it knows the triage, this process parses, and nothing of the process stays."""
    started: list[subprocess.Popen[bytes]] = []

    def dying(_: str, *, stdout: int) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["/bin/true"], stdin=subprocess.PIPE, stdout=stdout))
        os.waitid(os.P_PID, started[0].pid, os.WEXITED | os.WNOWAIT)
        return started[0]

    monkeypatch.setattr(readers_module, "start_module", dying)
    with closing(Readers(TRIAGE)) as readers:
        assert readers.decide(event(TEXT)) == TRIAGE.decide(event(TEXT))
        assert len(readers._idle) == 0
    (process,) = started
    assert process.returncode is not None
    assert process.stdin is not None
    assert process.stdin.closed
    assert "is parsed in this process" in caplog.text


def test_settings_of_an_earlier_start() -> None:
    """A triage can be made again from what the ledger keeps of it, also from what an older version has kept."""
    for triage in {id(triage): triage for triage, *_ in CASES}.values():
        assert Triage.from_settings(json.loads(json.dumps(triage.settings()))) == triage
    shallow = Triage(name="mine", filter=Filter("$.a"), strict=True, max_depth=3)
    assert Triage.from_settings(shallow.settings()) == shallow
    assert Triage.from_settings({"name": "mine", "jsonpath": None, "strict": False}) == Triage(name="mine")
