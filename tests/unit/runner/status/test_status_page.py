"""The status page lets in who has the token, does what its own forms ask for, and shows strangers' texts as texts."""

from __future__ import annotations

import html
import re
import select
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import attrs
import pytest
import requests
import urllib3

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.http.server import serve
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_runner.status import listener
from pacifica_notifications_runner.status.address import StatusAddress
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.api.documents import SubscriptionStatus
from pacifica_notifications_runner.status.listener import showing
from pacifica_notifications_runner.status.pages.markup import Markup, join, tag
from tests.support.http_tools import PATIENT, connect, raw, rest_of, statuses
from tests.support.machine.waiting import DEADLINE
from tests.support.runner_tools import body, make_runner

TOKEN = "let-me-in"
EVIL = "<script>alert(1)</script>\"'&"


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[JobRunner]:
    """Job 1 is dead, and has printed what is to be no markup."""
    with make_runner(tmp_path, f"import sys\nprint({EVIL!r})\nsys.exit(3)") as runner:
        rows = {"destinationTable": "Files", "subdir": "", "name": EVIL}
        runner.accept(body(1, rows).replace(b'"e.1"', b'"<script>e.1</script>"'))
        runner.wait(1, DEADLINE)
        (runner.directory(1).path / "<script>.txt").touch()
        yield runner


@pytest.fixture
def url(runner: JobRunner) -> Iterator[str]:
    told: SubscriptionStatus = {"well": False, "trouble": EVIL, "uuid": "u", "target_url": EVIL}
    with showing(Api(runner, subscription=lambda: told), TOKEN, "127.0.0.1", 0) as server:
        yield server.url


@pytest.fixture
def browser(url: str) -> Iterator[requests.Session]:
    """Somebody who has come in through the link."""
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(f"{url}/?token={TOKEN}", timeout=DEADLINE).status_code == 200
        yield session


def signed_in(url: str) -> str:
    """The cookie of a new session, as a browser sends it."""
    answer = requests.post(f"{url}/login", data={"token": TOKEN}, allow_redirects=False, timeout=DEADLINE)
    return answer.headers["Set-Cookie"].partition(";")[0]


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([\w-]{43})"', page)
    assert found
    return found[1]


def test_problem_names_the_flag_of_a_setting(runner: JobRunner) -> None:
    """A problem of the subscription that names a setting is shown with the setting's flag and variable."""
    told: SubscriptionStatus = {"well": False, "trouble": "correct `username`", "uuid": "u", "target_url": "http://h"}
    with (
        showing(Api(runner, subscription=lambda: told), TOKEN, "127.0.0.1", 0) as server,
        requests.Session() as session,
    ):
        page = session.get(f"{server.url}/?token={TOKEN}", timeout=DEADLINE).text
    assert "Subscription: correct --username (PACIFICA_USERNAME)" in page


def test_the_link_lets_in_and_the_token_goes(url: str) -> None:
    """The link sets a cookie that no script can read and no other site sends, and leads to an address without token."""
    answer = requests.get(f"{url}/jobs?state=dead&token={TOKEN}", allow_redirects=False, timeout=DEADLINE)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/jobs?state=dead")
    for path in (b"//evil.example.org", b"/\\evil.example.org"):
        led = raw(url, b"GET " + path + b"?token=" + TOKEN.encode() + b" HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"\r\nLocation: /evil.example.org\r\n" in led
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert requests.get(url + "/jobs", headers={"Cookie": cookie}, timeout=DEADLINE).status_code == 200
    again = requests.get(f"{url}/?token={TOKEN}", headers={"Cookie": cookie}, allow_redirects=False, timeout=DEADLINE)
    assert (again.status_code, again.headers.get("Set-Cookie")) == (303, None)


@pytest.mark.sampled
@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/1", "/notifications", "/replay", "/nothing", "/?token=wrong"])
def test_strangers_see_a_form_only(url: str, path: str) -> None:
    """Whoever has neither token nor cookie is asked for the token, and told nothing."""
    for cookies in ({}, {f"pacifica-status-{url.rpartition(':')[2]}": "0" * 64}):
        answer = requests.get(url + path, cookies=cookies, timeout=DEADLINE)
        assert answer.status_code == 401
        assert "dead" not in answer.text
        assert 'action="/login"' in answer.text


def test_login_by_form_and_leaving(url: str) -> None:
    """The token can be typed in, and whoever leaves has to show it again."""
    with requests.Session() as session:
        wrong = session.post(f"{url}/login", data={"token": "wrong"}, timeout=DEADLINE)
        assert (wrong.status_code, "the token is wrong" in wrong.text) == (401, True)
        page = session.post(f"{url}/login", data={"token": f" {TOKEN} "}, timeout=DEADLINE)
        assert (page.status_code, page.url) == (200, f"{url}/")
        elsewhere = {"Origin": "http://evil.example.org"}
        other = requests.post(f"{url}/login", data={"token": TOKEN}, headers=elsewhere, timeout=DEADLINE)
        assert (other.status_code, "Set-Cookie" in other.headers) == (403, False)
        session.post(f"{url}/logout", data={"csrf": csrf_of(page.text)}, timeout=DEADLINE)
        assert session.get(url, timeout=DEADLINE).status_code == 401


def test_copied_cookie(url: str, runner: JobRunner) -> None:
    """Signing out ends the session at the server: a copy of the cookie shows nothing and does nothing any more."""
    copied = {"Cookie": signed_in(url)}
    form = {"csrf": csrf_of(requests.get(url, headers=copied, timeout=DEADLINE).text)}
    out = requests.post(f"{url}/logout", data=form, headers=copied, allow_redirects=False, timeout=DEADLINE)
    assert (out.status_code, "Max-Age=0" in out.headers["Set-Cookie"]) == (303, True)
    for path in ("/", "/jobs/1", "/api/status", "/metrics"):
        assert requests.get(url + path, headers=copied, timeout=DEADLINE).status_code == 401
    assert requests.post(f"{url}/jobs/1/retry", data=form, headers=copied, timeout=DEADLINE).status_code == 401
    assert runner.job(1).attempts == 1


def test_log_is_followed_as_long_as_the_session(tmp_path: Path) -> None:
    """A browser that follows a log gets nothing more of it once its session has ended."""
    with (
        make_runner(tmp_path, "import sys, time\nprint('begun', flush=True)\nwhile True: time.sleep(1)") as runner,
        showing(Api(runner), TOKEN, "127.0.0.1", 0) as server,
    ):
        runner.accept(body(1))
        cookie = {"Cookie": signed_in(server.url)}
        log = f"{server.url}/api/jobs/1/log?follow=yes"
        with requests.get(log, headers=cookie, stream=True, timeout=DEADLINE) as answer:
            assert answer.raw.read(5) == b"begun"
            form = {"csrf": csrf_of(requests.get(server.url, headers=cookie, timeout=DEADLINE).text)}
            requests.post(f"{server.url}/logout", data=form, headers=cookie, timeout=DEADLINE)
            with pytest.raises(urllib3.exceptions.ProtocolError):
                answer.raw.read()
        runner.cancel(1)


@pytest.fixture
def narrow(runner: JobRunner, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A page with two threads, each of which would wait for a client for as long as the test takes."""
    limits = attrs.evolve(PATIENT, threads=2)
    monkeypatch.setattr(listener, "serve", partial(serve, limits=limits))
    with showing(Api(runner), TOKEN, "127.0.0.1", 0) as server:
        yield server.url


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Content-Length: 100000", 413),
        ("Content-Length: 4097", 413),
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: 100\r\nExpect: 100-continue", 411),
    ],
)
def test_bodies_of_strangers_take_no_threads(narrow: str, field: str, status: int) -> None:
    """200 clients that send half a body without the token are refused at once, and the one with the token is served."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(narrow)) for _ in range(200 if "100000" in field else 3)]
        for client in clients:
            client.sendall(f"POST /login HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\ntoken=".encode())
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.get(f"{narrow}/api/status", headers=bearer, timeout=DEADLINE).status_code == 200
        for client in clients:
            answer = rest_of(client)
            assert statuses(answer) == [status]
            # A page with a form of a session would give its secret away.
            assert b"csrf" not in answer


def test_strangers_that_read_nothing_take_no_threads(narrow: str) -> None:
    """Clients without the token that send many requests and read no answers are disconnected."""
    with ExitStack() as stack:
        poll = select.poll()
        clients = [stack.enter_context(socket.socket()) for _ in range(2)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", int(narrow.rpartition(":")[2])))
            client.setblocking(False)
            client.send(b"GET /style.css HTTP/1.1\r\nHost: h\r\n\r\n" * 5000)
            poll.register(client, select.POLLHUP)
        for _ in clients:
            ((number, _event),) = poll.poll(DEADLINE * 1000)[:1]
            poll.unregister(number)
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.get(f"{narrow}/api/status", headers=bearer, timeout=DEADLINE).status_code == 200


@pytest.mark.sampled
@pytest.mark.parametrize(
    "path", ["/", "/jobs", "/jobs/1", "/jobs/1/retry", "/notifications", "/notifications/1", "/replay"]
)
def test_what_strangers_wrote_is_text(url: str, browser: requests.Session, path: str) -> None:
    """Nothing that came from outside becomes markup, and no page may load or be loaded from elsewhere."""
    answer = browser.get(url + path, timeout=DEADLINE)
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "<script>e.1" not in answer.text
    assert "<script>.txt" not in answer.text
    assert html.escape("<script>") in answer.text or path == "/replay"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    # What the policy forbids would be broken in a browser.
    assert not re.search(r" style=| on\w+=|<style", answer.text)
    assert TOKEN not in answer.text


def test_retry_takes_a_form_of_this_page(url: str, browser: requests.Session, runner: JobRunner) -> None:
    """A job is run again through its form, and by nothing that another site could make a browser send."""
    page = browser.get(f"{url}/jobs/1/retry", timeout=DEADLINE).text
    other = {"Cookie": signed_in(url)}
    for form, headers in (
        ({}, {}),
        ({"csrf": "0" * 43}, {}),
        ({"csrf": csrf_of(page)}, {"Sec-Fetch-Site": "cross-site"}),
        ({"csrf": csrf_of(page)}, {"Sec-Fetch-Site": "same-site"}),
        ({"csrf": csrf_of(page)}, {"Origin": "null"}),
        ({"csrf": csrf_of(page)}, {"Origin": "http://127.0.0.1:1"}),
        ({"csrf": csrf_of(requests.get(url, headers=other, timeout=DEADLINE).text)}, {}),
    ):
        answer = browser.post(f"{url}/jobs/1/retry", data=form, headers=headers, timeout=DEADLINE)
        assert answer.status_code == 403
    assert browser.post(f"{url}/api/jobs/1/retry", timeout=DEADLINE).status_code == 401
    assert runner.job(1).attempts == 1
    assert runner.job(1).state is JobState.DEAD
    before = runner.job(1).started_at
    own = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
    done = browser.post(f"{url}/jobs/1/retry", data={"csrf": csrf_of(page)}, headers=own, timeout=DEADLINE)
    assert (done.status_code, done.url) == (200, f"{url}/jobs/1")
    assert runner.wait(1, DEADLINE).started_at != before


def test_what_cannot_be_done_is_said(url: str, browser: requests.Session, runner: JobRunner) -> None:
    """A job that has ended cannot be cancelled, and the page says so."""
    form = {"csrf": csrf_of(browser.get(f"{url}/jobs/1", timeout=DEADLINE).text)}
    answer = browser.post(f"{url}/jobs/1/cancel", data=form, timeout=DEADLINE)
    assert (answer.status_code, "job 1 has ended: it is dead" in answer.text) == (409, True)
    assert browser.get(f"{url}/jobs/7", timeout=DEADLINE).status_code == 404
    assert browser.get(f"{url}/jobs?state=odd", timeout=DEADLINE).status_code == 400


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/nothing", 404, "the page /nothing does not exist"),
        ("GET", "/jobs/x", 400, "id must be a number, 1 or more, not 'x'"),
        ("GET", "/jobs/1/burn", 400, "action must be one of retry, cancel"),
        ("GET", "/jobs?stat=dead", 400, "did you mean state?"),
        ("POST", "/jobs", 405, "use GET"),
        ("DELETE", "/jobs", 405, "use GET"),
    ],
)
def test_requests_that_no_page_answers(
    url: str, browser: requests.Session, method: str, path: str, status: int, reason: str
) -> None:
    """A request for a page that does not exist, or that cannot be understood, is refused with a page that says why."""
    form = {"csrf": csrf_of(browser.get(url, timeout=DEADLINE).text)}
    answer = browser.request(method, url + path, data=form if method == "POST" else None, timeout=DEADLINE)
    assert answer.status_code == status
    assert reason in html.unescape(answer.text)


def test_absolute_target(url: str) -> None:
    """RFC 9112, 3.2.2: a request may name its resource by the absolute URI."""
    answer = raw(url, b"GET http://elsewhere/style.css HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert (statuses(answer), b"text/css" in answer) == ([200], True)


def test_head_answers_without_a_body(url: str, browser: requests.Session) -> None:
    """HEAD has the status and the type of a page and of a document, and nothing more."""
    for path, kind in (("/jobs/1", "text/html; charset=utf-8"), ("/api/jobs/1/log", "text/plain; charset=utf-8")):
        answer = browser.head(url + path, timeout=DEADLINE)
        assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (200, kind, b"")


def test_replay_is_confirmed(url: str, browser: requests.Session, runner: JobRunner) -> None:
    """The first form only counts; the second does it; what is not understood is said beside what was typed."""
    csrf = csrf_of(browser.get(f"{url}/replay", timeout=DEADLINE).text)
    wrong = browser.post(f"{url}/replay", data={"csrf": csrf, "since": "noon"}, timeout=DEADLINE)
    assert (wrong.status_code, "since must be a time" in wrong.text, 'value="noon"' in wrong.text) == (400, True, True)
    asked = browser.post(f"{url}/replay", data={"csrf": csrf, "states": "dead"}, timeout=DEADLINE)
    assert "Run 1 job again?" in asked.text
    assert runner.job(1).state is JobState.DEAD
    before = runner.job(1).started_at
    form = {"csrf": csrf, "states": "dead", "confirmed": "yes"}
    assert browser.post(f"{url}/replay", data=form, timeout=DEADLINE).status_code == 200
    assert runner.wait(1, DEADLINE).started_at != before


def test_the_address_is_for_this_user_only(tmp_path: Path) -> None:
    """The file that tells the token can be read by nobody else, goes with the page, and shows in no repr."""
    address = StatusAddress("http://127.0.0.1:1", TOKEN)
    assert TOKEN not in repr(address)
    with pytest.raises(StateError, match="starting or stopping"):
        StatusAddress.find(tmp_path)
    with address.kept_in(tmp_path):
        (path,) = tmp_path.iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert StatusAddress.find(tmp_path) == address
        path.write_text("{}")
        with pytest.raises(StateError, match="damaged"):
            StatusAddress.find(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_markup_escapes_all_but_markup() -> None:
    """Texts and the values of attributes are escaped, markup is not, and what is left out leaves nothing."""
    made = tag(
        "a", "<b>", Markup("<i></i>"), None, False, ["&", tag("br_", "x")], href='"', class_="c", hidden=True, id=None
    )
    assert made == '<a href="&quot;" class="c" hidden>&lt;b&gt;<i></i>&amp;<br_>x</br_></a>'
    assert join(0, "") == "0"
