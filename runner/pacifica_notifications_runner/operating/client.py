"""A consumer that was started on this machine, running or stopped: where it is, and how to ask it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import requests
import urllib3

from pacifica_notifications_consumer.clients.base import reason
from pacifica_notifications_consumer.errors import ConfigurationError, InUse, ServiceError, StateError
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.jobs.directory import LEDGER, check_used
from pacifica_notifications_consumer.queue.job_book import JobBook
from pacifica_notifications_runner import defaults as defaults
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.status.address import StatusAddress
from pacifica_notifications_runner.status.api.api import Api

_TIMEOUTS = (5.0, 60.0)


class RequestRefused(StateError):  # noqa: N818  (what happened is its name)
    """The consumer does not do what it was asked to do."""


class ConsumerClient(Protocol):
    """A consumer that can be asked, through the same API whether it runs or not."""

    def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, document: Mapping[str, Any] | None = None
    ) -> Any:
        """Ask it for a document.

        Raises:
            Refused: It does not do that.
            StateError: It cannot be asked.
        """
        ...

    def stream(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """Ask it for bytes.

        Raises:
            Refused: There are none.
            StateError: It cannot be asked.
        """
        ...


class StoppedConsumer:
    """A consumer that is stopped.

    Args:
        book: Its notifications and jobs.
    """

    def __init__(self, book: JobBook) -> None:
        self._api = Api(book)

    def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, document: Mapping[str, Any] | None = None
    ) -> Any:
        """See `ConsumerClient.ask`."""
        with _refusing():
            return self._api.answer(method, path, query or {}, document).document

    def stream(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """See `ConsumerClient.stream`."""
        # Nothing more will come of what waits until the consumer is started.
        query = {name: value for name, value in query.items() if name != "follow"}
        with _refusing():
            return self._api.answer("GET", path, query).pieces or iter(())


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        raise RequestRefused(error.reason) from error


class RunningConsumer:
    """A consumer that is running.

    Args:
        address: Its status page.
    """

    def __init__(self, address: StatusAddress) -> None:
        self._url = address.url
        self._session = requests.Session()
        # It is on this machine, however this user's requests leave it.
        self._session.trust_env = False
        self._session.verify = False
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._session.headers["Authorization"] = f"Bearer {address.token}"

    def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, document: Mapping[str, Any] | None = None
    ) -> Any:
        """See `ConsumerClient.ask`."""
        return self._request(method, path, query or {}, document).json()

    def stream(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """See `ConsumerClient.stream`."""
        answer = self._request("GET", path, query, stream=True)
        try:
            with answer:
                # As it comes, not when a whole piece is there.
                yield from answer.raw.stream(1 << 16, decode_content=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise StateError("the consumer has stopped meanwhile", "ask again") from error

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        document: Mapping[str, Any] | None = None,
        *,
        stream: bool = False,
    ) -> requests.Response:
        try:
            answer = self._session.request(
                method, self._url + path, params=query, json=document, timeout=_TIMEOUTS, stream=stream
            )
        except requests.RequestException as error:
            raise ServiceError(
                f"cannot reach the consumer at {self._url}: {reason(error)}", "look at whether it is well"
            ) from error
        if not answer.ok:
            raise RequestRefused(_detail(answer))
        return answer


def _detail(answer: requests.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, LookupError, TypeError):
        return f"the consumer answered {answer.status_code} {answer.reason}"


def state_dir_of(settings: Settings) -> Path:
    """The state directory of the consumer that is meant: the named one, or the only one of this user.

    Raises:
        ConfigurationError: None is named, and this user has none or several; or no such consumer has ever run.
    """
    if settings.state_dir is None and settings.name is None:
        known = _known()
        if len(known) == 1:
            return defaults.default_state_dir(known[0])
        advice = "set `name` or `state_dir`"
        raise ConfigurationError(
            "it is not said which consumer is meant", f"{advice}; there are {', '.join(known)}" if known else advice
        )
    state_dir = settings.state_dir or defaults.default_state_dir(str(settings.name))
    check_used(state_dir)
    return state_dir


def _known() -> list[str]:
    """The consumers whose state is where the start command puts it."""
    try:
        return sorted(path.parent.name for path in defaults.default_state_dir("x").parent.glob(f"*/{LEDGER}"))
    except OSError:
        # That place is another user's.
        return []


@contextlib.contextmanager
def asking(settings: Settings) -> Iterator[ConsumerClient]:
    """Get to a consumer, be it running or not.

    Raises:
        ConfigurationError: As `state_dir_of`.
        StateError: It is starting or stopping, or belongs to another user.
    """
    state_dir = state_dir_of(settings)
    with contextlib.ExitStack() as stack:
        asked: ConsumerClient
        try:
            asked = StoppedConsumer(stack.enter_context(JobBook(state_dir)))
        except InUse:
            asked = RunningConsumer(StatusAddress.find(state_dir))
        yield asked


def as_json(document: Any) -> str:
    """A document for programs, and for people who look at it."""
    return json.dumps(document, indent=2, ensure_ascii=False)
