"""Finds a consumer that was started on this machine, and asks it through its API, whether it runs or not."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

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


class RequestRefused(StateError):  # noqa: N818  (what happened is its name)
    """The consumer refused a request."""


class ConsumerClient:
    """A consumer, running or stopped, that is asked through its API.

    Args:
        answer: Answers a request, as `Api.answer` does.
    """

    def __init__(self, answer: Callable[[str, str, Mapping[str, str], Any], Answer]) -> None:
        self._answer = answer

    def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, document: Mapping[str, Any] | None = None
    ) -> Any:
        """Ask it for a document.

        Raises:
            RequestRefused: It refuses.
            StateError: It cannot be asked.
        """
        return self._answer(method, path, query or {}, document).document

    def stream(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """Ask it for bytes; errors as those of `ask`."""
        return self._answer("GET", path, query, None).pieces or iter(())


def _stopped(book: JobBook) -> ConsumerClient:
    def answer(method: str, path: str, query: Mapping[str, str], document: Any) -> Answer:
        # The output of a job that waits does not grow before the consumer is started.
        query = {name: value for name, value in query.items() if name != "follow"}
        try:
            return Api(book).answer(method, path, query, document)
        except HTTPError as error:
            raise RequestRefused(error.reason) from error

    return ConsumerClient(answer)


def _running(address: StatusAddress) -> ConsumerClient:
    session = requests.Session()
    # It is on this machine: neither proxies nor certificates of other hosts apply.
    session.trust_env = session.verify = False
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    session.headers["Authorization"] = f"Bearer {address.token}"

    def answer(method: str, path: str, query: Mapping[str, str], document: Any) -> Answer:
        url = address.url + path
        try:
            got = session.request(method, url, params=query, json=document, timeout=_TIMEOUTS, stream=True)
            if got.headers.get("Content-Type") == "application/json":
                return Answer(document=got.json())
        except requests.RequestException as error:
            raise ServiceError(
                f"cannot reach the consumer at {address.url}: {reason(error)}", "check whether it is running"
            ) from error
        if not got.ok:
            raise RequestRefused(_detail(got))
        return Answer(pieces=_pieces(got))

    return ConsumerClient(answer)


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    try:
        with answer:
            # Each as soon as it has arrived, however short.
            yield from answer.raw.stream(1 << 16, decode_content=True)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise StateError("the consumer has stopped meanwhile", "ask again") from error


def _detail(answer: requests.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, LookupError, TypeError):
        return f"the consumer answered {answer.status_code} {answer.reason}"


def state_dir_of(settings: Settings) -> Path:
    """The state directory of the consumer that the settings name, or of the only one of this user.

    Raises:
        ConfigurationError: None is named, and this user has none or several; or no such consumer has ever run.
    """
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
    """The names of the consumers in the default place of state directories."""
    try:
        return sorted(path.parent.name for path in defaults.default_state_dir("x").parent.glob(f"*/{LEDGER}"))
    except OSError:
        # The place belongs to another user.
        return []


@contextlib.contextmanager
def asking(settings: Settings) -> Iterator[ConsumerClient]:
    """Find a consumer, and ask it as long as the context lasts.

    Raises:
        ConfigurationError: As `state_dir_of`.
        StateError: It is starting or stopping, or belongs to another user.
    """
    state_dir = state_dir_of(settings)
    with contextlib.ExitStack() as stack:
        try:
            client = _stopped(stack.enter_context(JobBook(state_dir)))
        except InUse:
            client = _running(StatusAddress.find(state_dir))
        yield client


def add_output(parser: argparse.ArgumentParser) -> None:
    """Give a command the flag ``--output``."""
    told = "text for people, json as the API has it"
    parser.add_argument("--output", choices=("text", "json"), default="text", help=told)
