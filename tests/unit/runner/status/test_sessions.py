"""A session lasts until its browser signs out, or for 12 hours, and its cookie can be had from its browser only."""

from __future__ import annotations

import time

import pytest

from pacifica_notifications_runner.status import access as module
from pacifica_notifications_runner.status.access import AccessControl, Session


def cookie_of(set_cookie: str) -> dict[str, str]:
    """The header field with which a browser sends a cookie back."""
    return {"Cookie": set_cookie.partition(";")[0]}


def begin(access: AccessControl) -> dict[str, str]:
    return cookie_of(access.sign_in({}))


@pytest.fixture
def access() -> AccessControl:
    return AccessControl("token", port=80)


def test_sessions_differ(access: AccessControl) -> None:
    """Each session has a cookie and a form's secret of its own, of 256 bits each, and no other consumer knows it."""
    cookies = [begin(access) for _ in range(2)]
    sessions = [access.session(cookie) for cookie in cookies]
    secrets = {cookie["Cookie"].partition("=")[2] for cookie in cookies} | {each.csrf for each in sessions if each}
    assert [len(secret) for secret in secrets] == [43] * 4
    assert AccessControl("token", port=80).session(cookies[0]) is None
    for secret in (*secrets, "token"):
        assert secret not in repr((access, sessions))


def test_form_of_another_session(access: AccessControl) -> None:
    """A form is good in the session that got it, and in no other one."""
    ours, theirs = Session(), Session()
    assert [ours.has_made({"csrf": each.csrf}) for each in (ours, theirs)] == [True, False]
    assert not ours.has_made({})


def test_signing_out_ends_one_session(access: AccessControl) -> None:
    """Signing out, or in again, ends the session of this browser, and of no other one."""
    ours, theirs = begin(access), begin(access)
    again = cookie_of(access.sign_in(ours))
    assert (access.session(ours), access.session(again) is None) == (None, False)
    access.sign_out(again)
    assert (access.session(again), access.session(theirs) is None) == (None, False)


def test_lifetime(access: AccessControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session ends after 12 hours, whether it has been used or not."""
    cookie, now = begin(access), time.monotonic()
    for hours, lasts in ((11.9, True), (12.1, False)):
        monkeypatch.setattr(time, "monotonic", lambda hours=hours: now + hours * 3600)
        assert (access.session(cookie) is not None) is lasts


def test_most_sessions(access: AccessControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest session ends for one too many."""
    monkeypatch.setattr(module, "_MOST_SESSIONS", 3)
    cookies = [begin(access) for _ in range(4)]
    assert [access.session(cookie) is not None for cookie in cookies] == [False, True, True, True]


@pytest.mark.parametrize(
    ("secure", "begins", "ends"),
    [
        (True, "__Host-pacifica-status-80=", "; Path=/; HttpOnly; SameSite=Strict; Secure"),
        (False, "pacifica-status-80=", "; Path=/; HttpOnly; SameSite=Strict"),
    ],
)
def test_attributes_of_the_cookie(secure: bool, begins: str, ends: str) -> None:
    """Over TLS, the cookie has the prefix that lets no other host and no plain HTTP set it (RFC 6265bis, 4.1.3)."""
    access = AccessControl("token", secure, port=80)
    made = access.sign_in({})
    assert (made.startswith(begins), made.endswith(ends)) == (True, True)
    assert access.sign_out(cookie_of(made)) == f"{begins}{ends}; Max-Age=0"


@pytest.mark.parametrize("others", ["{}; a=b", 'x; y=a b"; {}', "pacifica-status-80=; {}", "{}; pacifica-status-80=x"])
def test_cookies_of_other_ports(access: AccessControl, others: str) -> None:
    """Whatever other servers of the same host have set beside it, a session's cookie is found."""
    assert access.session({"Cookie": others.format(begin(access)["Cookie"])}) is not None
