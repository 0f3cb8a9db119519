"""Catching up on the real services: what is rebuilt is what was delivered, and no mixture of outages loses anything.

Transactions are put into metadata by its own interface.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import requests

from pacifica_notifications_consumer import Filter, upload
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.clients.producer import Producer, SubscriptionSpec
from pacifica_notifications_consumer.cloudevents.announcement import Identity, announce
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY
from pacifica_notifications_consumer.errors import PacificaError
from pacifica_notifications_consumer.jobs.job import JobState, Origin
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.settings.services import Services
from tests.endtoend.conftest import TOOL, Deployment, Operator, pack, wait_until
from tests.endtoend.recorder import Request, recording
from tests.integration.bed import Bed
from tests.integration.conftest import TRANSACTION, write
from tests.support.background import Background
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import ROOT

SEED = int(os.environ.get("PACIFICA_TEST_SEED", "7"))
#: The filters that the documentation shows.
DOCUMENTED = sorted(
    set(re.findall(r"^```text\n(\$\[.*)$", (ROOT / "docs/how-to/write-a-filter.md").read_text(), re.MULTILINE))
)
#: A project and an instrument of other people's.
CAROLS = {"Transactions.submitter": 13, "Transactions.project": "5678", "Transactions.instrument": 104}
GO = '$["data"][*][?(@["destinationTable"] = "TransactionKeyValue" and @["key"] = "go")]'
#: Says what it is run for, and uploads something that its own filter matches.
ENTRY_POINT = """\
import json, os, pathlib, sys
from pacifica_notifications_consumer import upload
source, destination = map(pathlib.Path, sys.argv[1:])
event = json.loads((source / "notification.json").read_bytes())
file = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(file, (event["eventID"] + "\\n").encode())
(destination / "uploads" / "result.txt").write_text(event["eventID"])
mine = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
upload(destination, mine, {"go": "result", "made of": event["eventID"]}).get()
"""


class Metadata:
    """Puts transactions into metadata as ingest does, only without files in the archive.

    Numbers are taken from the same service as ingest's, so that they are mixed with those of real uploads.
    """

    def __init__(self, bed: Bed) -> None:
        self._bed = bed

    def numbers(self, mode: str, count: int = 1) -> int:
        params: dict[str, str | int] = {"range": count, "mode": mode}
        answer = requests.get(f"{self._bed.urls['uniqueid']}/getid", params=params, timeout=60)
        answer.raise_for_status()
        return int(answer.json()["startIndex"])

    def put(self, rows: list[dict[str, Any]]) -> int:
        """Make a transaction of rows, to which the numbers are added as ingest adds them."""
        files = [row for row in rows if row["destinationTable"] == "Files"]
        first = self.numbers("file", len(files)) if files else 0
        for number, file in enumerate(files, first):
            file["_id"] = number
        for row in rows:
            if row["destinationTable"] == "FileKeyValue":
                row["file_id"] += first
        number = self.numbers("upload_job")
        body = [*rows, {"destinationTable": "Transactions._id", "value": number}]
        answer = requests.put(f"{self._bed.urls['metadata']}/ingest", json=body, timeout=60)
        assert answer.ok, answer.text
        return number


def rows_of(attributes: Mapping[str, Any], **key_values: Any) -> list[dict[str, Any]]:
    pairs = ({"destinationTable": "TransactionKeyValue", "key": key, "value": v} for key, v in key_values.items())
    return [*({"destinationTable": table, "value": value} for table, value in attributes.items()), *pairs]


def random_rows(chance: random.Random, *, typed: bool) -> list[dict[str, Any]]:
    """The rows of some upload; ``typed`` ones have values that metadata keeps in another type, or not all of them."""
    attributes: dict[str, Any] = dict(TRANSACTION)
    if typed:
        attributes["Transactions.submitter"] = "10"
    rows = rows_of(attributes)
    for number in range(chance.randrange(4)):
        value: Any = chance.choice(["e2e", "", "ümläut λ", "x" * 255, "5", "a\\b\"c'd"])
        value = chance.choice([5, 2.5, value]) if typed else value
        rows.append({"destinationTable": "TransactionKeyValue", "key": f"Tag{number or ''}", "value": value})
    files = chance.choice([0, 1, 1, 2, 5, 30])
    for number in range(files):
        name = chance.choice(["{}a.txt", "{}b c.dat", "{}ü λ.csv", "{}-.tar.gz", "raw_{}.tif"])
        rows.append(
            {
                "destinationTable": "Files",
                "name": name.format(number),
                "subdir": chance.choice(["", "a", "a/b", "ü/x y", "spectra"]),
                "size": chance.choice([0, 1, 2**40]),
                "hashtype": chance.choice(["sha1", "sha256"]),
                "hashsum": "",
                "mimetype": chance.choice(["text/plain", "text/csv", "image/tiff", "application/octet-stream"]),
                "ctime": f"2026-11-0{chance.randrange(1, 9)}T01:02:03",
                "mtime": chance.choice(["2020-02-29T23:59:59", "2026-11-24T00:00:00"]),
            }
        )
        rows[-1]["hashsum"] = "0a" * (20 if rows[-1]["hashtype"] == "sha1" else 32)
    for number in range(files):
        if chance.random() < 0.2:
            pair = {"key": "quality", "value": chance.choice(["good", "bad"]), "file_id": number}
            rows.append({"destinationTable": "FileKeyValue", **pair})
    return rows


def forgotten(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what metadata does not keep."""
    event = json.loads(json.dumps(event))
    for row in event["data"]:
        if row["destinationTable"] in ("Transactions.submitter", "Transactions.instrument"):
            row["value"] = int(row["value"])
        elif row["destinationTable"] == "TransactionKeyValue":
            row["value"] = str(row["value"])
    return event


def test_rebuilt_as_delivered(bed: Bed) -> None:
    """A hundred notifications, rebuilt of what policy tells, are those that were delivered, for every filter."""
    chance = random.Random(SEED)
    delivered: dict[str, dict[str, Any]] = {}

    def answer(request: Request) -> tuple[int, bytes, str]:
        event = json.loads(request.body)
        delivered[event["eventID"]] = event
        return 202, b"", "text/plain"

    services = Services.from_environment(bed.environ() | {"PACIFICA_USERNAME": "alice"})
    metadata = Metadata(bed)
    typed = {}
    with recording(answer) as recorder, make_session(services) as session:
        producer = Producer(services.producer_url, session)
        uuid = producer.subscribe(SubscriptionSpec(name="all", jsonpath="$", target_url=f"{recorder.url}/", token="t"))
        try:
            for number in range(100):
                typed[metadata.put(random_rows(chance, typed=number % 5 == 0))] = number % 5 == 0
            # Those of uploads of other tests may come, too.
            expected = {f"metadata.ingest.{number}" for number in typed}
            wait_until(lambda: expected <= delivered.keys(), "all are delivered")
        finally:
            producer.unsubscribe(uuid)
        policy = Policy(bed.urls["policy"], session)
        identity = Identity.learn((event["source"], event["eventID"]) for event in delivered.values())
        assert identity == Identity()
        filters = [Filter(jsonpath) for jsonpath in (*DOCUMENTED, GO)]
        hits: collections.Counter[str] = collections.Counter()
        for number, is_typed in typed.items():
            told = policy.transaction(number)
            assert told is not None
            body = announce(told, identity)
            rebuilt, event = json.loads(body), delivered[f"metadata.ingest.{number}"]
            # It is announced after it was made.
            assert 0 <= _time(event["eventTime"]) - _time(rebuilt["eventTime"]) <= DEADLINE
            event["eventTime"] = rebuilt["eventTime"]
            for each in filters:
                # What an uploader sent as another type than metadata keeps may be decided otherwise.
                assert is_typed or list(each.find(rebuilt)) == list(each.find(event)), (number, each.jsonpath)
                hits[each.jsonpath] += each.matches(rebuilt)
            assert rebuilt == forgotten(event)
            if number % 20 == 0:
                assert policy.may_see("alice", body)
                assert not policy.may_see("mallory", body)
    assert len(filters) > 8
    missed = [each.jsonpath for each in filters if not hits[each.jsonpath]]
    # One is for a day of the past, one has the mistakes that `check` finds.
    assert [each for each in missed if "eventTime" not in each and '"File"' not in each] == [GO]


def _time(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


class Instruments(Background):
    """Upload all the time, for alice and for others, and go on when that fails."""

    def __init__(self, bed: Bed, home: Path) -> None:
        self._services = Services.from_environment(bed.environ() | {"PACIFICA_USERNAME": "alice"})
        self._home = home
        self._metadata = Metadata(bed)
        self._chance = random.Random(SEED)
        self.uploads = self.failures = 0
        super().__init__(partial(self._upload, 0), partial(self._upload, 1), self._put)

    def _upload(self, thread: int) -> None:
        number = 0
        while not self.stop.wait(0.2):
            number += 1
            directory = write(self._home / f"{thread}-{number}", {"a.txt": b"%d %d" % (thread, number)})
            key_values = {"go": "yes"} if number % 3 else {"stay": "yes"}
            try:
                upload(directory, TRANSACTION, key_values, services=self._services).get()
                self.uploads += 1
            except PacificaError:
                # While policy is down ingest makes no transaction, and leaves a number out.
                self.failures += 1

    def _put(self) -> None:
        while not self.stop.wait(0.3):
            attributes = self._chance.choice([TRANSACTION, TRANSACTION, CAROLS])
            self._metadata.put(rows_of(attributes, go="yes"))
            self.uploads += 1


def fault(bed: Bed, services: Services, deployment: Deployment) -> None:
    """Have the producer switch the subscription off, as one bad answer does."""
    refused = threading.Event()

    def refuse(_: Request) -> tuple[int, bytes, str]:
        refused.set()
        return 503, b"nobody at home", "text/plain"

    with make_session(services) as session, recording(refuse) as refusing:
        producer = Producer(services.producer_url, session)
        deployment.command.process.send_signal(signal.SIGSTOP)  # it cannot mend what happens now
        (subscription,) = bed.subscriptions()
        producer.correct(
            subscription["uuid"], SubscriptionSpec(name="tested", jsonpath="$", target_url=refusing.url, token="x")
        )
        assert refused.wait(60)
        wait_until(lambda: bed.subscriptions()[0]["disabled"], "the producer has switched it off")
        time.sleep(1)
        deployment.command.process.send_signal(signal.SIGCONT)
    deployment.command.wait_for("notifications may have been missed from")


def test_mixed_outages(bed: Bed, operator: Operator, tmp_path: Path) -> None:
    """The producer down, the subscription off, the consumer stopped, killed, policy down, all while uploads go on."""
    services = Services.from_environment(bed.environ() | {"PACIFICA_USERNAME": "alice"})
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": ENTRY_POINT, "jsonpath2.txt": GO})
    notes = tmp_path / "notes"
    notes.touch()

    class Pacifica:
        environ = staticmethod(lambda: bed.environ() | {"NOTES": str(notes)})
        subscriptions = staticmethod(bed.subscriptions)

    flags: list[str | Path] = [
        "--venv-cache",
        tmp_path / "environments",
        "--watch-interval",
        "0.5",
        "--catch-up-interval",
        "1",
    ]
    flags += ["--catch-up-rate", "100", "--attempts", "20"]
    begun = Metadata(bed).numbers("upload_job")

    def start() -> Deployment:
        return Deployment(operator, Pacifica, archive, *flags)

    deployment = start()
    with Instruments(bed, tmp_path / "uploads") as instruments:
        time.sleep(1)
        with bed.without("notifications"):
            time.sleep(2)
        fault(bed, services, deployment)
        assert deployment.command.stop().status == 0
        time.sleep(2)
        deployment = start()
        with bed.without("policy"):
            wait_until(lambda: instruments.failures, "an upload has failed")
        time.sleep(1)
        deployment.command.stop(signal.SIGKILL)
        time.sleep(2)
        deployment = start()
        with bed.without("notifications-worker", "policy"):
            time.sleep(1.5)
        time.sleep(1)
    expected, others = expectation(bed, begun)
    assert others

    def ended() -> bool:
        with contextlib.closing(Ledger(deployment.state_dir / "ledger.sqlite3")) as ledger:
            return ledger.count_jobs()[JobState.SUCCEEDED] >= len(expected)

    wait_until(ended, "every transaction has been processed")
    # What came of it all is looked through once more, from the very beginning, and finds nothing.
    again = operator.run(TOOL, "catch-up", "--state-dir", deployment.state_dir, "--from", str(begun), "--dry-run")
    assert ", 0 would be run; " in again.stdout, again.stdout
    wait_until(lambda: not waiting(deployment), "jobs have ended")
    assert deployment.command.stop().status == 0
    with contextlib.closing(Ledger(deployment.state_dir / "ledger.sqlite3")) as ledger:
        jobs, missed = ledger.records.jobs(100_000), ledger.coverage.counts()
    print(f"\n{instruments.uploads} uploads, {instruments.failures} failed, {len(expected)} to run, {missed}")  # noqa: T201
    check(bed, begun, expected, others, notes.read_text().split())
    assert sorted(job.title for job in jobs) == sorted(expected)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert sum(job.origin is Origin.RECOVERED for job in jobs) == missed.recovered
    assert missed.recovered >= 1
    assert missed.refused >= 1


def waiting(deployment: Deployment) -> int:
    with contextlib.closing(Ledger(deployment.state_dir / "ledger.sqlite3")) as ledger:
        return sum(count for state, count in ledger.count_jobs().items() if not state.final)


def transactions(bed: Bed, begun: int) -> Iterator[dict[str, Any]]:
    """All transactions since a number was taken, as metadata has them."""
    for number in range(begun + 1, Metadata(bed).numbers("upload_job")):
        if told := bed.transaction(number):
            yield told


def expectation(bed: Bed, begun: int) -> tuple[set[str], set[str]]:
    """The event ids for which alice's consumer is to run, and those that match but are other people's."""
    expected: set[str] = set()
    others: set[str] = set()
    for told in transactions(bed, begun):
        if "go" in told["key_values"] and PROVENANCE_KEY not in told["key_values"]:
            (expected if told["project"] == "1234a" else others).add(f"metadata.ingest.{told['_id']}")
    return expected, others


def check(bed: Bed, begun: int, expected: set[str], others: set[str], notes: list[str]) -> None:
    """Hold what ran, and what came of it, against what was to run."""
    assert set(notes) == expected
    assert not others & set(notes)
    made_of = collections.Counter(
        told["key_values"]["made of"]
        for told in transactions(bed, begun)
        if told["key_values"].get(PROVENANCE_KEY) == "tested"
    )
    # One result of each, though a killed consumer may have run an entry-point twice.
    assert made_of == collections.Counter(expected)
