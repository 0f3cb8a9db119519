"""What goes wrong at the start, and what strangers post: a clear error, the documented status, nothing left behind."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import sqlite3
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest
import requests

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import BIN, KEEPER, START, Deployment, Operator, event, pack, wait_until
from tests.endtoend.recorder import Answer, Request, recording
from tests.support.machine.ports import free_port
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import DATA

GOOD = {"__main__.py": KEEPER}
NO_FILTER = {**GOOD, "jsonpath2.txt": "\n"}
TWO_LINES = {**GOOD, "jsonpath2.txt": '$["data"]\n$["eventID"]\n'}
NO_PATH = {**GOOD, "jsonpath2.txt": '$["data"][?(@["a" = 1)]\n'}
WINDOWS = {**GOOD, "init.sh": "#!/bin/sh\r\nexit 0\r\n"}
MARK = {**GOOD, "init.sh": "\ufeff#!/bin/sh\nexit 0\n"}
LONG = {**GOOD, "x" * 300: ""}
ANY_USER = ("--username", "alice")
PORT = str(free_port())
SAME_PORT = ("--port", PORT, "--status-port", PORT)


def undone(operator: Operator) -> None:
    """Nothing is left of a start that failed, but the state directory perhaps."""
    assert operator.leftovers() == []


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        pytest.param(b"PK, but not really", 65, "is not a usable zip archive", id="not a zip"),
        pytest.param(b"", 65, "is not a usable zip archive", id="empty file"),
        pytest.param(None, 65, "cannot read", id="no file"),
        pytest.param({"main.py": ""}, 65, "has no __main__.py", id="no entry-point"),
        pytest.param({"my/__main__.py": ""}, 65, "in the folder 'my', not at the top; zip the content of", id="nested"),
        pytest.param({**GOOD, "../up.py": ""}, 65, "the unsafe name '../up.py'", id="leads out"),
        pytest.param(NO_FILTER, 65, "jsonpath2.txt is empty; ", id="empty jsonpath2.txt"),
        pytest.param(TWO_LINES, 65, "jsonpath2.txt has more than one line: line 2 is", id="two jsonpaths"),
        pytest.param(NO_PATH, 65, "jsonpath2.txt: cannot parse the JSONPath: line 1, column ", id="no jsonpath"),
        pytest.param(WINDOWS, 65, "init.sh has the line endings of Windows", id="init.sh of Windows"),
        pytest.param(MARK, 65, "init.sh begins with a byte order mark (BOM); save it as", id="byte order mark"),
        pytest.param(LONG, 65, ": File name too long; use a shorter name", id="long name"),
    ],
)
def test_unusable_archive(
    operator: Operator, tmp_path: Path, files: Mapping[str, str | bytes] | bytes | None, status: int, words: str
) -> None:
    """Step 1 refuses what is no consumer, in one sentence that says what to do."""
    archive = tmp_path / "consumer.zip"
    if isinstance(files, bytes):
        archive.write_bytes(files)
    elif files is not None:
        pack(archive, files)
    outcome = operator.run(START, archive, *ANY_USER)
    assert outcome.status == status
    error = outcome.error(START)
    assert words in error
    assert "; " in error
    undone(operator)
    assert not (tmp_path / "up.py").exists()


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        pytest.param(["--python", "/bin/true"], 78, "/bin/true is not a usable Python", id="python is none"),
        pytest.param(["--python", "/nowhere"], 78, "No such file or directory; correct --python", id="no python"),
        pytest.param(["--config", "wrong.ini"], 78, "sets producer_uri, which is not a setting; did", id="key"),
        pytest.param(["--config", "none.ini"], 78, "; correct --config (PACIFICA_CONFIG)", id="no INI file"),
        pytest.param(["--producer-url", "pacifica:8070"], 78, "(PACIFICA_PRODUCER_URL) cannot be 'pac", id="no URL"),
        pytest.param(["--producer-url", "http://192.0.2.7"], 78, "which only this machine can reach; ", id="loopback"),
        pytest.param(["--password-file", "none"], 78, "correct --password-file (PACIFICA_PASS", id="no password file"),
        pytest.param(["--port", "65536"], 78, "it must be a whole number from 0 to 65,535", id="no port"),
        pytest.param(["--address", "a..b"], 71, "; set --address (PACIFICA_ADDRESS) to an address of", id="address"),
        pytest.param(["--status-address", "203.0.113.1"], 71, "; set --status-address (PACIFICA", id="status address"),
        pytest.param(["--state-dir", "wrong.ini"], 73, "; choose another with --state-dir", id="state is a file"),
        pytest.param([*SAME_PORT], 71, "; stop the process that uses it, or set --status-port", id="same port"),
        pytest.param([*SAME_PORT, "--address", "localhost"], 71, "or set --status-port", id="same port of a name"),
        pytest.param(["--ca-bundle", "wrong.ini"], 78, "; correct --ca-bundle (PACIFICA_CA_BUNDLE)", id="authorities"),
        pytest.param(["--authentication", "basic"], 78, "set --username (PACIFICA_USERNAME), and", id="no password"),
        pytest.param(["--run-as", ""], 78, "--run-as (PACIFICA_RUN_AS) is empty; leave it out", id="empty account"),
        pytest.param(["--username", ""], 78, "--username (PACIFICA_USERNAME) is empty; leave it out", id="empty user"),
        pytest.param(["--workers", "100000"], 78, "it must be a whole number from 1 to 1,000", id="many workers"),
        pytest.param(["--workers", "9" * 23], 78, "it must be a whole number from 1 to 1,000", id="very many workers"),
        pytest.param(["--webhook-secrets", "none"], 78, "; let --webhook-secrets (PACIFICA_WEBHOOK", id="no secrets"),
    ],
)
def test_wrong_settings(operator: Operator, tmp_path: Path, flags: list[str], status: int, words: str) -> None:
    """A wrong setting is refused before anything is made, with the flag's name in it."""
    (operator.home / "wrong.ini").write_text("[pacifica-notifications-consumer]\nproducer_uri = http://127.0.0.1:1\n")
    archive = pack(tmp_path / "consumer.zip", GOOD)
    outcome = operator.run(START, archive, *ANY_USER, *flags)
    assert outcome.status == status
    assert words in outcome.error(START)
    assert "creating a virtual environment" not in outcome.stderr
    undone(operator)


def test_missing_user_name(operator: Operator, tmp_path: Path) -> None:
    """Without a user the producer would disable the subscription at once, so none is made."""
    outcome = operator.run(START, pack(tmp_path / "consumer.zip", GOOD))
    assert (outcome.status, "; set --username (PACIFICA_USERNAME) to the" in outcome.error(START)) == (78, True)
    undone(operator)


def test_remote_producer_needs_a_reachable_address(operator: Operator, tmp_path: Path) -> None:
    """The refusal of a loopback address for a producer elsewhere names both flags that help."""
    outcome = operator.run(START, pack(tmp_path / "c.zip", GOOD), *ANY_USER, "--producer-url", "http://192.0.2.7:8070")
    error = outcome.error(START)
    assert [flag in error for flag in ("192.0.2.7", "127.0.0.1", "--address", "--target-url")] == [True] * 4


@pytest.mark.parametrize("where", ["relative python", "folder with a space"])
def test_ways_to_write_a_path(
    operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path, where: str
) -> None:
    """A relative --python, and a temporary directory with a space in its name, are fine."""
    archive = pack(tmp_path / "consumer.zip", GOOD)
    tmp = operator.tmp / "with a space"
    tmp.mkdir()
    relative = where == "relative python"
    flags = ("--python", "./python" if relative else quick_python, "--state-dir", tmp_path / "state")
    variables = sandbox.environ() | ({} if relative else {"TMPDIR": str(tmp)})
    command = operator.command(START, archive, *ANY_USER, *flags, cwd=quick_python.parent, variables=variables)
    command.wait_for("ready: ")
    assert command.stop().status == 0
    assert list(tmp.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param((401, b"{}", ""), "answered 401 Unauthorized to GET /eventmatch; check --username", id="401"),
        pytest.param((403, b"", ""), "answered 403 Forbidden to POST /eventmatch; check --username", id="403"),
        pytest.param((500, b"<h1>", ""), "500 Internal Server Error to GET /eventmatch; look into the log", id="500"),
        pytest.param((200, b"<html>", ""), "something that is not JSON; check that --producer-url", id="HTML"),
        pytest.param((200, b"[]", ""), "without the UUID of the new subscription; check", id="list"),
        pytest.param((302, b"", ""), "answered 302 Found", id="redirect"),
        pytest.param(None, "cannot reach the producer at http://127.0.0.1:1: Connection refused; start it", id="down"),
    ],
)
def test_producer_that_refuses(
    operator: Operator, tmp_path: Path, quick_python: Path, answer: Answer | None, words: str
) -> None:
    """Whatever the producer answers at the start, the error says it, and steps 5 to 1 are undone."""
    archive = pack(tmp_path / "consumer.zip", GOOD)
    with recording(lambda _: answer or (200, b"", "")) as producer:
        url = producer.url if answer else "http://127.0.0.1:1"
        flags = ("--python", quick_python, "--producer-url", url, "--state-dir", operator.home / "state")
        outcome = operator.run(START, archive, *ANY_USER, *flags, "--register-timeout", "0")
    assert outcome.status == 69
    assert words in outcome.error(START)
    undone(operator)
    assert "ready" not in outcome.stderr


def test_unknown_user(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> None:
    """Where policy may be asked, a user whom Pacifica does not know is refused before the subscription."""
    archive = pack(tmp_path / "consumer.zip", GOOD)
    flags = ("--username", "nobody", "--python", quick_python)
    outcome = operator.run(START, archive, *flags, variables=sandbox.environ())
    assert (outcome.status, "knows no user 'nobody'; correct --username" in outcome.error(START)) == (78, True)
    assert sandbox.subscriptions() == []
    undone(operator)


def test_port_in_use(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> None:
    """Step 5 fails: status 71, the port is named, and nothing is subscribed."""
    archive = pack(tmp_path / "consumer.zip", GOOD)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        flags = ("--python", quick_python, "--port", port)
        outcome = operator.run(START, archive, *ANY_USER, *flags, variables=sandbox.environ())
    assert outcome.status == 71
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use; " in outcome.error(START)
    assert sandbox.subscriptions() == []
    undone(operator)


@pytest.mark.parametrize("fault", ["a file", "below a file", "damaged ledger", "later ledger"])
def test_unusable_state_directory(operator: Operator, tmp_path: Path, quick_python: Path, fault: str) -> None:
    """Step 4 fails: status 73, and the error names the directory or the ledger in it."""
    state = tmp_path / "state"
    if "ledger" in fault:
        state.mkdir()
    if fault == "damaged ledger":
        (state / "ledger.sqlite3").write_bytes(b"something else " * 1000)
    elif fault == "later ledger":
        with contextlib.closing(sqlite3.connect(state / "ledger.sqlite3")) as ledger:
            ledger.execute("PRAGMA user_version = 99")
    else:
        state.write_text("a file")
    given = state / "deeper" if fault == "below a file" else state
    flags = ("--python", quick_python, "--state-dir", given, "--producer-url", "http://127.0.0.1:1")
    outcome = operator.run(START, pack(tmp_path / "consumer.zip", GOOD), *ANY_USER, *flags)
    assert (outcome.status, str(given) in outcome.error(START)) == (73, True)
    undone(operator)


def test_state_directory_of_a_running_consumer(keeper: Deployment, operator: Operator, quick_python: Path) -> None:
    """A second runner on the same state directory refuses, names the first, and does not disturb it."""
    archive = pack(operator.home / "consumer.zip", GOOD)
    flags = ("--python", quick_python, "--state-dir", keeper.state_dir, "--name", "second")
    outcome = operator.run(START, archive, *ANY_USER, *flags, variables=keeper.sandbox.environ())
    assert outcome.status == 73
    pid = keeper.command.process.pid
    assert f"{keeper.state_dir} is in use by tested (process {pid}); stop that one" in outcome.error(START)
    assert [each["name"] for each in keeper.sandbox.subscriptions()] == ["tested"]
    assert keeper.post(event(900)).status_code == 202
    undone(operator)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "the notification is empty"),
        (b" \r\n", 400, "the notification is empty"),
        (b"{", 400, "the notification is not JSON"),
        (b'{"eventID": "\xff"}', 400, "the notification is not JSON"),
        (b"[" * 50_000, 400, "the notification is nested too deeply"),
    ],
    ids=lambda value: repr(value[:12]) + str(len(value)) if isinstance(value, bytes) else None,
)
def test_body_that_is_no_json(keeper: Deployment, body: bytes, status: int, detail: str) -> None:
    """It is refused with what is wrong with it, and set aside."""
    before = keeper.verdicts().get("unreadable", 0)
    response = keeper.post(body)
    assert (response.status_code, detail in response.json()["detail"]) == (status, True)
    assert keeper.verdicts()["unreadable"] == before + 1


@pytest.mark.parametrize("body", [b"[]", b"7", b"null"])
def test_body_that_is_no_notification(keeper: Deployment, body: bytes) -> None:
    """It is taken, since a refusal would switch the consumer off, and set aside with a warning."""
    before = keeper.verdicts().get("malformed", 0)
    response = keeper.post(body)
    assert (response.status_code, response.json()["verdict"], response.json()["job"]) == (202, "malformed", None)
    assert keeper.verdicts()["malformed"] == before + 1
    assert "is set aside: the notification is a JSON " in keeper.command.stderr


@pytest.mark.parametrize("size", [100_001, 30_000_000])
def test_body_that_is_too_large(keeper: Deployment, size: int) -> None:
    """It is refused with its size and the limit, and nothing is stored."""
    before = keeper.verdicts()
    response = keeper.post(b" " * size)
    expected = f"the body has {size} bytes, the limit is 100000"
    assert (response.status_code, response.json()["detail"]) == (413, expected)
    assert keeper.verdicts() == before


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "Bearer {token}x"])
@pytest.mark.parametrize("size", [100, 30_000_000])
def test_wrong_or_missing_token(keeper: Deployment, given: str | None, size: int) -> None:
    """It is answered 401, however large the body, and nothing is stored."""
    before = keeper.verdicts()
    authorization = given if given is None else given.format(token=keeper.token)
    response = keeper.post(event(901).ljust(size), Authorization=authorization)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="pacifica", Basic realm="pacifica"'
    assert keeper.verdicts() == before


def test_other_paths_and_methods(keeper: Deployment) -> None:
    """What is not there is 404, and a wrong method 405."""
    assert (keeper.get("/")[0], keeper.get("/receive")[0]) == (404, 405)
    with requests.put(f"{keeper.url}/receive", data=event(902), timeout=DEADLINE) as response:
        assert response.status_code == 405


def test_clients_that_hang_up(keeper: Deployment) -> None:
    """A client that resets its connection is nobody's error: no traceback, and the endpoint goes on."""
    port = int(keeper.url.rpartition(":")[2])
    head = f"POST /receive HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {keeper.token}\r\nContent-Length: 999\r\n\r\n"
    for said in ("", "POST /rec", head, head + '{"eventID'):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(said.encode())
            # A reset instead of an orderly end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert keeper.get("/healthz")[0] == 200
    assert keeper.post(event(903)).status_code == 202
    assert "Traceback" not in keeper.command.stderr


@pytest.mark.parametrize("document", [{"eventID": "\ud800"}, {"source": "\udfff"}, {"eventID": 9**99}, {"data": 7}])
def test_odd_notification_is_answered(keeper: Deployment, document: dict[str, object]) -> None:
    """A JSON object with odd values is taken or refused, but answered; the producer would never send another."""
    assert keeper.post(event(904, **document)).status_code in (202, 400)


@pytest.mark.parametrize("subdir", ["../..", "/etc", "a" * 300, "\ud800", "nul\0"])
def test_poisonous_notification_stops_no_worker(
    operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path, subdir: str
) -> None:
    """A folder that cannot be made ends its job, not the worker: the next notification is run."""
    flags = ("--python", quick_python, "--workers", "1", "--grace", "1")
    deployment = Deployment(operator, sandbox, pack(tmp_path / "consumer.zip", GOOD), *flags)
    files = [{"destinationTable": "Files", "name": "a", "subdir": subdir}]
    assert [deployment.post(event(1, data=files)).status_code, deployment.post(event(2)).status_code] == [202, 202]
    deployment.job(2)
    job, _ = deployment.job(1, JobState.DEAD)
    assert (job.exit_status, job.reason.startswith("could not be started: ")) == (None, True)
    assert deployment.command.stop().status == 0
    undone(operator)


@pytest.mark.parametrize("place", ["file", "variable", "ini"])
def test_secrets_stay_secret(operator: Operator, tmp_path: Path, quick_python: Path, place: str) -> None:
    """The password reaches every service as basic auth; neither it nor the token shows up anywhere else."""
    password = "corr3ct-h0rse"
    archive = pack(
        tmp_path / "consumer.zip",
        {
            "__main__.py": "import sys\nfrom pacifica_notifications_consumer import download\ndownload(sys.argv[1])\n",
            "init.sh": "env; ps -ef\n",
        },
    )

    def pacifica(request: Request) -> Answer:
        if request.path == "/eventmatch" and request.method == "GET":
            return 403, b"{}", "application/json"
        return (200, b'{"uuid": "u"}', "application/json") if "eventmatch" in request.path else (500, b"{}", "")

    with recording(pacifica) as services:
        ini, file = tmp_path / "runner.ini", tmp_path / "password"
        file.write_text(f"{password}\n")
        setting = f"password = {password}\n" if place == "ini" else ""
        ini.write_text(f"[pacifica-notifications-consumer]\nusername = alice\ncartd_url = {services.url}\n{setting}")
        state = operator.home / "state"
        flags: list[str | Path] = ["--config", ini, "--verbose", "--python", quick_python, "--state-dir", state]
        flags += ["--password-file", file] if place == "file" else []
        variables = {"PACIFICA_PASSWORD": password} if place == "variable" else {}
        command = operator.command(START, archive, "--producer-url", services.url, *flags, variables=variables)
        command.wait_for("ready: ")
        (subscription,) = (json.loads(each.body) for each in services.requests if each.method == "POST")
        token = subscription["auth"]["header"]["credentials"]
        body = (DATA / "notifications" / "ingest-two-transaction-ids.json").read_bytes()
        headers = {"Authorization": f"Bearer {token}"}
        requests.post(subscription["target_url"], data=body, headers=headers, timeout=DEADLINE).raise_for_status()
        shown: set[str] = set()

        def ended() -> bool:
            shown.update(operator.processes().values())
            return "job 1: dead" in command.stderr

        wait_until(ended, "the job has ended")
        written = [each.read_bytes() for top in (state, operator.tmp) for each in top.rglob("*") if each.is_file()]
        outcome = command.stop()
    assert outcome.status == 0
    basic = "Basic " + base64.b64encode(f"alice:{password}".encode()).decode()
    asked = [(each.method, each.path[:11], each.headers.get("Authorization")) for each in services.requests]
    cart = services.requests[2].path
    assert asked == [
        ("GET", "/eventmatch", basic),
        ("POST", "/eventmatch", basic), ("POST", cart[:11], basic), ("DELETE", "/eventmatch", basic),
    ]  # fmt: skip
    assert {each.headers.get("Http-Remote-User") for each in services.requests} == {"alice"}
    assert [each for each in shown if "__main__.py" in each] != []
    said = "\n".join([outcome.stdout, outcome.stderr, *shown])
    for secret in (password, token, basic.removeprefix("Basic ")):
        assert secret not in said
        assert [content for content in written if secret.encode() in content] == []
    undone(operator)


def test_many_clients_at_once(keeper: Deployment) -> None:
    """Forty notifications at the same moment are all taken, each once."""
    before = keeper.verdicts().get("matched", 0)
    with ThreadPoolExecutor(40) as clients:
        statuses = list(clients.map(lambda number: keeper.post(event(number)).status_code, range(2000, 2040)))
    assert statuses == [202] * 40
    assert keeper.verdicts()["matched"] == before + 40


def test_version(operator: Operator) -> None:
    """Both commands tell the version and leave nothing."""
    said = [operator.run(BIN / each, "--version").stdout for each in (START, "pacifica-notifications-consumer")]
    assert said == [f"pacifica-notifications-consumer {version('pacifica-notifications-consumer')}\n"] * 2
