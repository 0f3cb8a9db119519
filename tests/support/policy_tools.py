"""A fake policy for tests, and a store on a ledger without anything that runs jobs."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.catch_up.catch_up import CatchUp, CatchUpRules
from pacifica_notifications_consumer.catch_up.seeker import LedgerStore
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.cloudevents.announcement import Identity
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.jobs.job import Origin
from pacifica_notifications_consumer.jobs.readers import Readers
from pacifica_notifications_consumer.jobs.triage import Triage
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.settings.services import Services
from tests.support.faults import fault_server

#: Fast enough that no test waits for the rate limit.
RULES = CatchUpRules(rate=100_000.0)
#: The filter of the tests' consumer.
FILTER = Filter('$["data"][*][?(@["key"] = "go")]')
UNKNOWN = {"status": "404 Not Found", "message": "No Transaction with an ID of 1 was found"}
BROKEN = {"status": "500 Internal Server Error", "message": "The server encountered an unexpected condition"}


def transaction(number: int, created: str = "2026-11-25T10:00:00", **key_values: str) -> dict[str, Any]:
    """Policy's answer for a transaction with one file."""
    file = {"_id": 1000 + number, "name": "a.txt", "subdir": "", "size": 1, "hashtype": "sha1", "hashsum": "0" * 40}
    file |= {"mimetype": "text/plain", "ctime": created, "mtime": created, "encoding": "UTF8", "key_values": {}}
    return {
        "created": created,
        "updated": created,
        "_id": number,
        "submitter": 10,
        "project": "1234a",
        "instrument": 54,
        "files": {str(file["_id"]): file},
        "key_values": key_values,
    }


class Told:
    """Answers like policy.

    Attributes:
        transactions: The existing transactions by their numbers.
        broken: The numbers of transactions for which metadata answers with an error.
        hidden: The numbers of transactions that the user may not see.
        down: Whether metadata is down.
        refused: How many requests came while it was down.
        asked: The queries: numbers of transactions, ``list``, and ``see`` with a number.
    """

    def __init__(self) -> None:
        self.url = ""
        self.reset()

    def reset(self) -> None:
        """Remove all transactions and faults."""
        self.transactions: dict[int, dict[str, Any]] = {}
        self.broken: set[int] = set()
        self.hidden: set[int] = set()
        self.down = False
        self.refused = 0
        self.asked: list[object] = []

    def add(self, *numbers: int, created: str = "2026-11-25T10:00:00", **key_values: str) -> None:
        """Add transactions."""
        for number in numbers:
            self.transactions[number] = transaction(number, created, **key_values)

    def go(self, *numbers: int, **changes: str) -> None:
        """Add transactions that match the filter."""
        self.add(*numbers, go="yes", **changes)

    def own(self, *numbers: int) -> None:
        """Add transactions that the consumer itself has uploaded."""
        self.add(*numbers, **{"go": "yes", PROVENANCE_KEY: "mine"})

    def answer(self, handler: Handler, body: bytes) -> None:
        if self.down:
            self.refused += 1
            return handler.reply(500, b"<html>no metadata</html>")
        match [unquote(part) for part in urlsplit(handler.path).path.split("/")[1:]]:
            case ["status", "transactions", "by_id", number]:
                self.asked.append(int(number))
                known = self.transactions.get(int(number), UNKNOWN)
                return self._reply(handler, BROKEN if int(number) in self.broken else known)
            case ["status", "transactions", "search", "list"]:
                self.asked.append("list")
                return self._reply(handler, self._list(dict(parse_qsl(urlsplit(handler.path).query))))
            case ["events", "alice"]:
                number = json.loads(body)["data"][-1]["value"]
                self.asked.append(("see", number))
                return handler.reply(412 if number in self.hidden else 200, b"{}", "application/json")
        return handler.reply(404)

    def _list(self, query: dict[str, str]) -> dict[str, Any]:
        start, end = query.get("start", ""), query.get("end", "9")
        times = {number: each["updated"] for number, each in self.transactions.items()}
        found = sorted((number for number, time in times.items() if start <= time <= end), reverse=True)
        size, page = int(query["item_count"]), int(query["page"])
        shown = found[size * (page - 1) : size * page]
        return {"times": {str(number): times[number] for number in shown}, "total_count": len(found)}

    @staticmethod
    def _reply(handler: Handler, document: dict[str, Any]) -> None:
        handler.reply(200, json.dumps(document).encode(), "application/json")


@contextlib.contextmanager
def telling() -> Iterator[Told]:
    """Run a fake policy on loopback."""
    told = Told()
    with fault_server(told.answer) as server:
        told.url = server.url
        yield told


class TestedStore(LedgerStore):
    """Accepts missed notifications into a ledger, and shows their jobs."""

    __test__ = False

    def deliver(self, *numbers: int, told: Told, identity: Identity | None = None) -> None:
        """Accept notifications as if the producer had posted them."""
        for number in numbers:
            answer = json.dumps(told.transactions[number]).encode()
            announced = self.readers.transaction(answer, identity or Identity())
            assert announced is not None
            self.ledger.accept([(announced.decision, announced.body)])

    def jobs(self, origin: Origin = Origin.RECOVERED) -> list[int]:
        """The numbers of the transactions for which jobs exist."""
        jobs = [job for job in self.ledger.records.jobs(1_000_000) if job.origin is origin]
        return sorted(int(job.title.rpartition(".")[2]) for job in jobs)


@contextlib.contextmanager
def store_at(home: Path) -> Iterator[TestedStore]:
    """Open the ledger of a directory."""
    readers = Readers(Triage(name="mine", filter=FILTER))
    with contextlib.closing(Ledger(home / "ledger.sqlite3")) as ledger, contextlib.closing(readers):
        yield TestedStore(ledger, readers)


@contextlib.contextmanager
def catcher(store: Any, told: Told, stop: threading.Event | None = None, **rules: Any) -> Iterator[CatchUp]:
    """Make a `CatchUp` for a store, with changed rules."""
    services = Services(policy_url=told.url, username="alice")
    with make_session(services) as session:
        policy = Policy(told.url, session)
        yield CatchUp(store, policy, "alice", attrs.evolve(RULES, **rules), stop or threading.Event())
