"""The status page lets in who has the token, does what its own forms ask for, and shows strangers' texts as texts."""

from __future__ import annotations

import html
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_runner.status.address import StatusAddress
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.api.documents import SubscriptionStatus
from pacifica_notifications_runner.status.listener import showing
from pacifica_notifications_runner.status.pages.markup import Markup, join, tag
from tests.support.http_tools import raw, statuses
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


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
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
        assert (wrong.status_code, "The token is wrong" in wrong.text) == (401, True)
        page = session.post(f"{url}/login", data={"token": f" {TOKEN} "}, timeout=DEADLINE)
        assert (page.status_code, page.url) == (200, f"{url}/")
        huge = requests.post(f"{url}/login", data=b"token=" + b"x" * (2 << 20), timeout=DEADLINE)
        assert huge.status_code == 413
        session.post(f"{url}/logout", data={"csrf": csrf_of(page.text)}, timeout=DEADLINE)
        assert session.get(url, timeout=DEADLINE).status_code == 401


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
    for form, headers in (
        ({}, {}),
        ({"csrf": "0" * 64}, {}),
        ({"csrf": csrf_of(page)}, {"Sec-Fetch-Site": "cross-site"}),
        ({"csrf": csrf_of(page)}, {"Sec-Fetch-Site": "same-site"}),
    ):
        answer = browser.post(f"{url}/jobs/1/retry", data=form, headers=headers, timeout=DEADLINE)
        assert answer.status_code == 403
    assert browser.post(f"{url}/api/jobs/1/retry", timeout=DEADLINE).status_code == 401
    assert runner.job(1).attempts == 1
    assert runner.job(1).state is JobState.DEAD
    before = runner.job(1).started_at
    done = browser.post(f"{url}/jobs/1/retry", data={"csrf": csrf_of(page)}, timeout=DEADLINE)
    assert (done.status_code, done.url) == (200, f"{url}/jobs/1")
    assert runner.wait(1, DEADLINE).started_at != before


def test_what_cannot_be_done_is_said(url: str, browser: requests.Session, runner: JobRunner) -> None:
    """A job that has ended cannot be cancelled, and the page says so."""
    form = {"csrf": csrf_of(browser.get(f"{url}/jobs/1", timeout=DEADLINE).text)}
    answer = browser.post(f"{url}/jobs/1/cancel", data=form, timeout=DEADLINE)
    assert (answer.status_code, "job 1 has ended: it is dead" in answer.text) == (409, True)
    assert browser.get(f"{url}/jobs/7", timeout=DEADLINE).status_code == 404
    assert browser.get(f"{url}/jobs?state=odd", timeout=DEADLINE).status_code == 400


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
