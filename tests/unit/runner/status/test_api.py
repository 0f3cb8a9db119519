"""The status API answers what its description says, and does to jobs what it was asked to do, and nothing else."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.errors import FilterError
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.queue.job_book import JobBook, Selection
from pacifica_notifications_consumer.subscription.incident import Incident, IncidentKind
from pacifica_notifications_runner.status.api.api import ROUTER, Api
from pacifica_notifications_runner.status.api.documents import SubscriptionStatus
from pacifica_notifications_runner.status.listener import showing
from tests.support.faults import FailingFilter
from tests.support.http_tools import raw
from tests.support.machine.waiting import DEADLINE, wait_for_line, wait_until
from tests.support.runner_tools import body, make_runner

TOKEN = "let-me-in"
#: Ends as the number of its notification says, after what it finds in `go`, if that is to be waited for.
ENTRY_POINT = """\
import json, os, sys, time
number = int(json.load(open(sys.argv[1] + "/notification.json"))["eventID"][2:])
print("hello", number, flush=True)
open(sys.argv[2] + "/uploads/out put.txt", "w").write("made")
while number == 3 and not os.path.exists(sys.argv[2] + "/go"):
    time.sleep(0.01)
sys.exit(3 if number == 2 else 0)
"""


class Client:
    """Asks the API over the wire, and holds each answer against the description."""

    def __init__(self, url: str, description: dict[str, Any]) -> None:
        self.url = url
        self._description = description
        self._registry = Registry().with_resource("api", DRAFT202012.create_resource(description))
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {TOKEN}"
        self.seen: set[tuple[str, str, int]] = set()

    def ask(self, method: str, path: str, document: Any = None, status: int = 200) -> requests.Response:
        answer = self._session.request(method, self.url + path, json=document, timeout=DEADLINE)
        assert answer.status_code == status, answer.text
        route = next(
            route
            for route in ROUTER.routes
            if route.method == method and route.match(path.partition("?")[0]) is not None
        )
        operation = self._description["paths"][route.path][method.lower()]
        content = operation["responses"][str(status)]["content"]
        kind = answer.headers["Content-Type"].partition(";")[0]
        assert kind in content, (path, kind)
        if "json" in kind and "$ref" in content[kind]["schema"]:
            schema = {"$ref": f"api{content[kind]['schema']['$ref']}"}
            checker = Draft202012Validator(schema, registry=self._registry, format_checker=FormatChecker())
            checker.validate(answer.json())
        self.seen.add((method, route.path, status))
        return answer


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobRunner]:
    """Of seven notifications: job 1 succeeded, 2 is dead, 3 is running, 4 to 6 are no jobs, 7 waits."""
    with make_runner(tmp_path_factory.mktemp("api"), ENTRY_POINT, workers=1) as runner:
        for number in (1, 2, 3):
            runner.accept(body(number))
        runner.accept(body(1))
        runner.accept(b"[]")
        runner.accept(b"no json")
        runner.accept(body(7, {"destinationTable": "TransactionKeyValue", "key": "Sample", "value": "B"}))
        wait_for_line(runner.directory(3).output)
        now = time.time()
        runner.note_incident(Incident(kind=IncidentKind.DISABLED, since=None, until=now, detail="<b>refused</b>"))
        yield runner


@pytest.fixture(scope="module")
def client(runner: JobRunner) -> Iterator[Client]:
    told: SubscriptionStatus = {"well": True, "trouble": "", "uuid": "u", "target_url": "http://here/receive"}
    api = Api(runner, subscription=lambda: told)
    with showing(api, TOKEN, "127.0.0.1", 0) as server:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        description = requests.get(f"{server.url}/api/openapi.json", headers=headers, timeout=DEADLINE).json()
        yield Client(server.url, description)


def test_the_description_is_valid(client: Client) -> None:
    """It is what the specification of OpenAPI wants, and every route of the server is in it."""
    validate(client._description)
    described = {(method, path) for path, methods in client._description["paths"].items() for method in methods}
    assert described == {(route.method.lower(), route.path) for route in ROUTER.routes}


def test_every_answer_is_as_described(client: Client, runner: JobRunner) -> None:
    """Each route answers what the description says, also when it refuses; none is left out."""
    assert client.ask("GET", "/api/status").json()["jobs"] == {
        "queued": 1, "running": 1, "succeeded": 1, "failed": 0, "dead": 1, "cancelled": 0,
    }  # fmt: skip
    client.ask("GET", "/api/openapi.json")
    listed = client.ask("GET", "/api/jobs").json()
    assert [job["id"] for job in listed["jobs"]] == [7, 3, 2, 1]
    page = client.ask("GET", "/api/jobs?limit=2&before=7").json()
    assert ([job["id"] for job in page["jobs"]], page["next"]) == ([3, 2], 2)
    dead = client.ask("GET", "/api/jobs?state=dead").json()["jobs"]
    assert [(job["id"], job["exit_status"], job["reason"]) for job in dead] == [(2, 3, "exit status 3")]
    assert client.ask("GET", "/api/jobs/1").json()["output_tail"] == "hello 1"
    client.ask("GET", "/api/jobs/99", status=404)
    client.ask("GET", "/api/jobs/x", status=400)
    client.ask("GET", "/api/jobs?state=lost", status=400)
    client.ask("GET", "/api/jobs?limit=0", status=400)
    assert "did you mean state?" in client.ask("GET", "/api/jobs?stat=dead", status=400).json()["detail"]

    assert client.ask("GET", "/api/jobs/1/log").text == "hello 1\n"
    assert client.ask("GET", "/api/jobs/1/log?offset=-2").text == "1\n"
    assert client.ask("GET", "/api/jobs/1/log?offset=6&follow=yes").text == "1\n"
    client.ask("GET", "/api/jobs/99/log", status=404)
    files = client.ask("GET", "/api/jobs/1/files").json()
    assert [file["path"] for file in files["files"]] == [
        "output.log", "incoming/notification.json", "outgoing/uploads/out put.txt",
    ]  # fmt: skip
    client.ask("GET", "/api/jobs/99/files", status=404)
    got = client.ask("GET", "/api/jobs/1/files/outgoing/uploads/out%20put.txt")
    assert (got.text, got.headers["Content-Disposition"]) == ("made", "attachment")
    client.ask("GET", "/api/jobs/1/files/nothing", status=404)

    verdicts = [each["verdict"] for each in client.ask("GET", "/api/notifications").json()["notifications"]]
    assert verdicts == ["matched", "unreadable", "malformed", "duplicate", *["matched"] * 3]
    aside = client.ask("GET", "/api/notifications?verdict=unreadable").json()["notifications"]
    assert [each["id"] for each in aside] == [6]
    assert client.ask("GET", "/api/notifications/1").json()["job"] == 1
    client.ask("GET", "/api/notifications/99", status=404)
    assert client.ask("GET", "/api/notifications/6/body").content == b"no json"
    client.ask("GET", "/api/notifications/4/body", status=404)

    client.ask("POST", "/api/jobs/99/retry", status=404)
    client.ask("POST", "/api/jobs/3/retry", status=409)
    client.ask("POST", "/api/jobs/99/cancel", status=404)
    client.ask("POST", "/api/jobs/1/cancel", {"reason": "x"}, status=409)
    client.ask("POST", "/api/jobs/7/cancel", {"why": "x"}, status=400)
    client.ask("POST", "/api/replay", {}, status=400)
    client.ask("POST", "/api/replay", {"states": ["running"]}, status=400)
    client.ask("POST", "/api/replay", {"since": "yesterday"}, status=400)
    client.ask("POST", "/api/replay", {"match": "$["}, status=400)
    assert client.ask("POST", "/api/replay", {"states": ["dead"], "dry_run": True}).json() == {
        "count": 1, "jobs": [2], "dry_run": True,
    }  # fmt: skip

    cancelled = client.ask("POST", "/api/jobs/7/cancel", {"reason": "not\ud800 \x1b now"}).json()
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", r"not\ud800 \x1b now")
    matching = {"match": '$["data"][*][?(@["value"] = "B")]', "dry_run": True}
    assert client.ask("POST", "/api/replay", matching).json()["jobs"] == [7]
    assert client.ask("POST", "/api/jobs/7/retry").json()["state"] == "queued"
    assert client.ask("POST", "/api/replay", {"states": ["dead"]}).json()["jobs"] == [2]
    assert runner.job(2).state is JobState.QUEUED

    # What is not JSON is refused before it can do anything.
    answer = client._session.post(f"{client.url}/api/replay", data=b"states=dead", timeout=DEADLINE)
    assert answer.status_code == 400
    wanted = {(route.method, route.path, 200) for route in ROUTER.routes}
    wanted |= {
        (route.method, route.path, status) for route in ROUTER.routes for status in route.refusals if status != 503
    }
    assert wanted - client.seen == set()


def test_a_log_is_followed_to_its_end(client: Client, runner: JobRunner) -> None:
    """Whoever follows the log of a running job sees what it has printed, and the end when it ends."""
    got: list[bytes] = []
    with client._session.get(f"{client.url}/api/jobs/3/log?follow=yes", stream=True, timeout=DEADLINE) as answer:
        pieces = answer.iter_content(1)
        got.append(next(pieces))
        assert runner.job(3).state is JobState.RUNNING
        (runner.directory(3).destination / "go").touch()
        got += pieces
    assert b"".join(got) == b"hello 3\n"
    wait_until(lambda: runner.job(3).state is JobState.SUCCEEDED)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/api/status", {}, 401),
        ("GET", "/api/status", {"Authorization": "Bearer wrong"}, 401),
        ("GET", "/api/status", {"Authorization": f"Bearer \xa0{TOKEN}"}, 401),
        ("GET", "/api/status", {"Authorization": "Basic " + TOKEN}, 401),
        ("POST", "/api/jobs/1/retry", {}, 401),
        ("GET", "/metrics", {}, 401),
        ("GET", "/api/nothing", {"Authorization": f"Bearer {TOKEN}"}, 404),
        ("DELETE", "/api/jobs/1", {"Authorization": f"Bearer {TOKEN}"}, 405),
    ],
)
def test_nobody_gets_in_without_the_token(
    client: Client, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Without the token nothing is told, and what does not exist is said to be so only to those who are in."""
    answer = requests.request(method, client.url + path, headers=headers, timeout=DEADLINE)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["..", "../1", "incoming/../../2/output.log", "link", "folder/output.log", "/etc/passwd"]
)
def test_no_file_outside_of_the_job_can_be_had(tmp_path: Path, path: str) -> None:
    """Neither by its path, nor through links that an entry-point has made."""
    with make_runner(tmp_path, "") as runner:
        runner.wait(runner.accept(body()).job_id or 0, DEADLINE)
        directory = runner.directory(1).path
        (directory / "link").symlink_to("/etc/passwd")
        (directory / "folder").symlink_to(directory)
        (tmp_path / "state" / "jobs" / "2").mkdir()
        (tmp_path / "state" / "jobs" / "2" / "output.log").write_text("secret")
        with showing(Api(runner), TOKEN, "127.0.0.1", 0) as server:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            with requests.Session() as session:
                request = requests.Request("GET", server.url, headers=headers).prepare()
                request.url = f"{server.url}/api/jobs/1/files/{path.replace('..', '%2e%2e')}"
                assert session.send(request, timeout=DEADLINE).status_code == 404
            listed = requests.get(f"{server.url}/api/jobs/1/files", headers=headers, timeout=DEADLINE).json()
    assert {file["path"] for file in listed["files"]} == {"output.log", "incoming/notification.json"}


def test_replay_by_time(tmp_path: Path) -> None:
    """Of the jobs that have ended, those are found whose notifications came in a time; each is queued once."""
    with make_runner(tmp_path, "", workers=2) as runner:
        for number in range(1, 6):
            runner.accept(body(number))
        for number in range(1, 6):
            runner.wait(number, DEADLINE)
    times = {}
    with JobBook(tmp_path / "state") as book:
        # As if they had come an hour apart.
        for number in range(1, 6):
            times[number] = 1_700_000_000.0 + 3600 * number
        statement = "UPDATE notifications SET received_at = ? WHERE id = ?"
        rows = [(received_at, number) for number, received_at in times.items()]
        book.ledger._database.write(lambda connection: connection.executemany(statement, rows) and None)
        wanted = Selection(since=times[2], until=times[4])
        assert [job.id for job in book.select(wanted)] == [2, 3, 4]
        assert [job.id for job in book.select(Selection(since=times[5] + 1))] == []
        states = frozenset({JobState.SUCCEEDED, JobState.DEAD})
        assert [job.id for job in book.select(Selection(until=times[3], states=states))] == [1, 2, 3]
        assert [job.id for job in book.select(Selection(states=frozenset({JobState.DEAD})))] == []
        assert book.replay(wanted) == [2, 3, 4]
        assert [job.id for job in book.select(wanted)] == []
        assert book.count_jobs()[JobState.QUEUED] == 3


def test_replay_with_a_filter_that_fails(tmp_path: Path) -> None:
    """A JSONPath that cannot be applied to a notification is an error that names it; nothing is queued."""
    with make_runner(tmp_path, "") as runner:
        runner.wait(runner.accept(body()).job_id or 0, DEADLINE)
        failing = Selection(match=FailingFilter())
        expected = r"^the notification of job 1: the JSONPath [^;]* failed on this event: [^;]*; [^;]*$"
        with pytest.raises(FilterError, match=expected):
            runner.replay(failing)
        assert runner.job(1).state is JobState.SUCCEEDED


def test_replay_with_a_damaged_notification(tmp_path: Path) -> None:
    """A notification that was damaged on the disk is an error that names its job; the job is not left out silently."""
    with make_runner(tmp_path, "") as runner:
        large = json.dumps({"source": "here", "eventID": "large", "filler": "x" * 100_000}).encode()
        runner.wait(runner.accept(large), DEADLINE)
        (file,) = (tmp_path / "state" / "notifications").iterdir()
        file.write_bytes(large[:70_000])
        with pytest.raises(FilterError, match=r"^the notification of job 1: the notification is not JSON"):
            runner.replay(Selection(match=Filter("$")))
        assert runner.job(1).state is JobState.SUCCEEDED


def test_chart_counts_what_ended(tmp_path: Path) -> None:
    """Minutes that are over are counted once, and the present one anew each time."""
    with make_runner(tmp_path, "import sys; sys.exit(1)") as runner:
        assert sum(each.dead for each in runner.ledger.records.ended_by_minute(5)) == 0
        runner.wait(runner.accept(body(1)).job_id or 0, DEADLINE)
        assert sum(each.dead for each in runner.ledger.records.ended_by_minute(5)) == 1
        runner.wait(runner.accept(body(2)).job_id or 0, DEADLINE)
        minutes = runner.ledger.records.ended_by_minute(5)
        assert (sum(each.dead for each in minutes), len(minutes)) == (2, 5)


def test_old_clients_get_no_chunks(client: Client) -> None:
    """An answer of unknown length to HTTP/1.0 ends with the connection."""
    path = b"GET /api/jobs/1/log"
    told = raw(client.url, path + b" HTTP/1.0\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n\r\n")
    head, _, content = told.partition(b"\r\n\r\n")
    assert content == b"hello 1\n"
    assert b"Transfer-Encoding" not in head


def test_followers_go_when_the_page_does(tmp_path: Path) -> None:
    """A log that is followed does not keep the server from ending."""
    with make_runner(tmp_path, "import time; print('x', flush=True); time.sleep(1000)") as runner:
        runner.accept(body())
        wait_for_line(runner.directory(1).output)
        followed = threading.Event()

        def follow(url: str) -> None:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            with requests.get(
                f"{url}/api/jobs/1/log?follow=yes", headers=headers, stream=True, timeout=DEADLINE
            ) as got:
                for _ in got.iter_content(1):
                    followed.set()

        with showing(Api(runner), TOKEN, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=follow, args=(server.url,))
            thread.start()
            assert followed.wait(DEADLINE)
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert runner.job(1).state is JobState.RUNNING


def test_documents_are_json_of_text_alone(client: Client) -> None:
    """What a stranger has put into a notification stands in the documents as text."""
    incident = client.ask("GET", "/api/status").json()["incidents"][0]
    assert incident["detail"] == "<b>refused</b>"
