"""A client of the API of a consumer on this machine, running or stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
import requests
import urllib3

from pacifica_notifications_consumer.clients.base import reason
from pacifica_notifications_consumer.errors import ConfigurationError, InUse, ServiceError, StateError
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.jobs.directory import LEDGER, check_used
from pacifica_notifications_consumer.queue.job_book import JobBook
from pacifica_notifications_runner import defaults
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.status.address import StatusAddress
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.api.request import Answer

_TIMEOUTS = (5.0, 60.0)


class RequestRefused(StateError):  # noqa: N818  (like Cancelled)
    """The consumer refused a request."""


@attrs.frozen
class ConsumerClient:
    """A client of a consumer; its requests are answered by a function like `Api.answer`."""

    _answer: Callable[[str, str, Mapping[str, str], Any], Answer]

    def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, document: Mapping[str, Any] | None = None
    ) -> Any:
        """Request a document."""
        return self._answer(method, path, query or {}, document).document

    def stream(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """Request bytes."""
        return self._answer("GET", path, query, None).pieces or iter(())


def _stopped(book: JobBook) -> ConsumerClient:
    def answer(method: str, path: str, query: Mapping[str, str], document: Any) -> Answer:
        # Without a running consumer no output grows.
        query = {name: value for name, value in query.items() if name != "follow"}
        try:
            return Api(book).answer(method, path, query, document)
        except HTTPError as error:
            raise _refused(error.status, error.reason) from error

    return ConsumerClient(answer)


def _refused(status: int, reason: str) -> RequestRefused:
    return RequestRefused(reason, "look for it with `jobs list`" if status == HTTPStatus.NOT_FOUND else "")


def _running(address: StatusAddress) -> ConsumerClient:
    session = requests.Session()
    # The consumer is on this machine: neither proxies nor the names in certificates apply.
    session.trust_env = session.verify = False
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    session.headers["Authorization"] = f"Bearer {address.token}"

    def answer(method: str, path: str, query: Mapping[str, str], document: Any) -> Answer:
        url = address.url + path
        try:
            response = session.request(method, url, params=query, json=document, timeout=_TIMEOUTS, stream=True)
            if response.headers.get("Content-Type") == "application/json":
                return Answer(document=response.json())
        except requests.RequestException as error:
            raise ServiceError(
                f"cannot reach the consumer at {address.url}: {reason(error)}", "check whether it is running"
            ) from error
        if not response.ok:
            raise _refused(response.status_code, _detail(response))
        return Answer(pieces=_pieces(response))

    return ConsumerClient(answer)


def _pieces(response: requests.Response) -> Iterator[bytes]:
    try:
        with response:
            # Unlike iter_content, this does not wait for full pieces.
            yield from response.raw.stream(1 << 16, decode_content=True)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise StateError("the consumer has stopped meanwhile", "repeat the command") from error


def _detail(response: requests.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, LookupError, TypeError):
        return f"the consumer answered {response.status_code} {response.reason}"


def state_dir_of(settings: Settings) -> Path:
    """The state directory of the consumer that the settings name, or of the only one of this user."""
    if settings.state_dir is None and settings.name is None:
        known = _known()
        if len(known) == 1:
            return defaults.default_state_dir(known[0])
        found = f"this user has several consumers: {', '.join(known)}" if known else "this user has no consumer"
        raise ConfigurationError(found, "name one with `name` or `state_dir`")
    state_dir = settings.state_dir or defaults.default_state_dir(str(settings.name))
    check_used(state_dir)
    return state_dir


def _known() -> list[str]:
    """The names of the consumers whose state directories are in the default place."""
    try:
        return sorted(path.parent.name for path in defaults.default_state_dir("x").parent.glob(f"*/{LEDGER}"))
    except OSError:
        # The place belongs to another user.
        return []


@contextlib.contextmanager
def asking(settings: Settings) -> Iterator[ConsumerClient]:
    """A client of the consumer that the settings name, until the context ends."""
    state_dir = state_dir_of(settings)
    with contextlib.ExitStack() as stack:
        try:
            client = _stopped(stack.enter_context(JobBook(state_dir)))
        except InUse:
            client = _running(StatusAddress.find(state_dir))
        yield client
