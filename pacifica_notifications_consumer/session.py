"""The one place that talks HTTP to Pacifica: credentials, time-outs, and errors in plain words."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth

from .errors import ServiceError
from .settings import Option, Services


def make_session(services: Services) -> requests.Session:
    """Open a session that carries the credentials on every request.

    The user goes into ``Http-Remote-User``, as Pacifica's services read it; where there is a password, both go into
    HTTP basic authentication too.
    """
    session = requests.Session()
    session.headers["User-Agent"] = f"pacifica-notifications-consumer/{version('pacifica-notifications-consumer')}"
    if services.username is not None:
        session.headers["Http-Remote-User"] = services.username
        if services.password is not None:
            session.auth = HTTPBasicAuth(services.username.encode(), services.password.encode())
    return session


class ServiceClient:
    """A Pacifica service at an address; its subclasses know the service's requests.

    Args:
        url: The service's address.
        session: From `make_session`.
    """

    #: What people call the service.
    title: str
    #: The setting that holds its address.
    option: Option
    #: Seconds to connect, and seconds between two pieces of an answer.
    timeouts = (10.0, 120.0)

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self._session = session
        # A site's proxy cannot reach what listens on this machine alone, such as the sandbox.
        self._proxies = dict.fromkeys(("http", "https", "all"), "") if _is_loopback(url) else None

    def request(
        self, method: str, path: str, *, expect: Collection[int] = (HTTPStatus.OK,), **arguments: Any
    ) -> requests.Response:
        """Send a request and return its answer.

        Args:
            method: The HTTP method.
            path: What follows the service's address.
            expect: The statuses that are no error.
            arguments: Passed on to requests.

        Raises:
            ServiceError: The service cannot be reached or answered another status.
        """
        try:
            # A redirect would carry Http-Remote-User to another host, and turn a POST into a GET.
            response = self._session.request(
                method,
                self.url + path,
                timeout=self.timeouts,
                allow_redirects=False,
                proxies=self._proxies,
                **arguments,
            )
        except requests.RequestException as error:
            raise ServiceError(
                f"cannot reach {self.title} at {self.url}: {reason(error)}",
                f"start it, or correct {self.option.flag} ({self.option.variable})",
            ) from error
        if response.status_code not in expect:
            raise self.refusal(method, path, response)
        return response

    def refusal(self, method: str, path: str, response: requests.Response) -> ServiceError:
        """Put an answer of another status than expected into words."""
        status = response.status_code
        said = _message(response)
        problem = (
            f"{self.title} at {self.url} answered {status} {response.reason} to {method} {path}"
            f"{': ' + said if said else ''}"
        )
        return ServiceError(problem, self._advice(status), status=status)

    def _advice(self, status: int) -> str:
        if status == HTTPStatus.UNAUTHORIZED:
            return "check --username and --password-file"
        if status == HTTPStatus.FORBIDDEN:
            return "check --username: this user may not do that"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return f"look into the log of {self.title}"
        return f"check that {self.option.flag} ({self.option.variable}) is the address of {self.title}"

    def json(self, response: requests.Response) -> Any:
        """Read an answer as JSON.

        Raises:
            ServiceError: It is none.
        """
        try:
            return response.json()
        except ValueError as error:
            raise ServiceError(
                f"{self.title} at {self.url} answered something that is not JSON",
                f"check that {self.option.flag} ({self.option.variable}) is the address of {self.title}",
            ) from error


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reason(error: BaseException) -> str:
    """Say in a few words why a request failed, from the innermost cause that the system names."""
    if isinstance(error, requests.Timeout):
        return "it did not answer in time"
    cause: BaseException | None = error
    words = type(error).__name__
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            words = cause.strerror
        cause = cause.__cause__ or cause.__context__
    return words


def summarize(text: str) -> str:
    """Shorten what a Pacifica service says of its own error, often with a whole traceback, to what matters of it."""
    message = _TRACEBACK.split(text, maxsplit=1)[0]
    if not message.strip():
        # Nothing stands before the traceback: its last line says what happened.
        message = ([line for line in text.splitlines() if line.strip()] or ["no reason given"])[-1]
    message = " ".join(message.split())
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


_TRACEBACK = re.compile(r"[^\w)\]]*traceback", re.IGNORECASE)
_LONGEST_MESSAGE = 300


def _message(response: requests.Response) -> str:
    try:
        document = response.json()
    except ValueError:
        return ""
    message = document.get("message") if isinstance(document, dict) else None
    return summarize(message) if isinstance(message, str) else ""
