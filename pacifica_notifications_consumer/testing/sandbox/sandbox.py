"""The sandbox: its services together, and the addresses that lead to them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from ...cloudevents.announcement import Identity
from ...errors import ConfigurationError, InUse, StateError
from ...http.server import serve
from ...settings.converters import check, seconds
from ...system.temporary import temporary_directory
from .cartd import CartHandler, Carts
from .ingest import IngestHandler, IngestService
from .policy import PolicyHandler, PolicyService
from .producer import ProducerHandler, ProducerService
from .store import Store
from .wire import ServiceHandler, bind

_LOG = logging.getLogger(__name__)
#: The file in the sandbox's directory with the URLs of its services.
_ADDRESSES = "addresses.json"
#: The file with the project's name and the source of the events, which stay those of the directory.
_SITE = "site.json"
_TODAY = {"project_field": "project", "ingest_source": Identity().source}
#: The Pacifica of a year, as arguments of `Sandbox`: in 2019, the specification of consumers was written.
AS_OF: dict[int, dict[str, Any]] = {2019: {"project_field": "proposal", "ingest_source": "/pacifica/metadata/ingest"}}


class Sandbox:
    """Four of Pacifica's services, which listen from construction until `close`.

    Every user is a member of every project, and requests need no authentication: use it on loopback only.

    Args:
        directory: The directory for files, transactions, subscriptions and ids; another sandbox with the same directory
            continues with them. None for a temporary directory, which `close` deletes.
        address: The address to listen on.
        producer_port: The port of the producer (notifications); 0 picks a free one, here and below.
        cartd_port: The port of cartd.
        ingest_port: The port of ingest.
        policy_port: The port of policy.
        staging_seconds: Minimum time in seconds to stage a cart.
        project_field: ``project``, or ``proposal`` like older versions of Pacifica; by default as the last sandbox of
            the directory, or else ``project``.
        ingest_source: The ``source`` of the events; ``{id}`` in it stands for the transaction's number; by default as
            the last sandbox of the directory, or else that of today's Pacifica.
        users: The number of each user by network id; None if every user is to be known.
        on_event: Called with a sentence for each event in the sandbox, from several threads. The sentences contain no
            credentials.

    Raises:
        ConfigurationError: An argument is wrong.
        EndpointError: The address or a port cannot be used.
        StateError: The directory cannot be used, or another sandbox uses it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        address: str = "127.0.0.1",
        producer_port: int = 0,
        cartd_port: int = 0,
        ingest_port: int = 0,
        policy_port: int = 0,
        staging_seconds: float = 0.0,
        project_field: str | None = None,
        ingest_source: str | None = None,
        users: Mapping[str, int] | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        given = {"project_field": project_field, "ingest_source": ingest_source}
        _check(_TODAY | {name: value for name, value in given.items() if value is not None})
        check(seconds, staging_seconds=staging_seconds)
        say = _guarded(on_event)
        with contextlib.ExitStack() as stack:
            self.directory = stack.enter_context(_directory(directory))
            self._store = store = stack.enter_context(contextlib.closing(Store(self.directory)))
            kept = read_site(self.directory)
            site = kept | {name: value for name, value in given.items() if value is not None}
            if site != kept and store.transactions():
                raise StateError(
                    f"{self.directory} has transactions of a sandbox of another kind", "choose a new directory"
                )
            (self.directory / _SITE).write_text(json.dumps(site), encoding="ascii")
            policy = PolicyService(project_field=site["project_field"], users=users)
            self._producer = stack.enter_context(contextlib.closing(ProducerService(store, policy, say)))
            carts = stack.enter_context(contextlib.closing(Carts(store, staging_seconds=staging_seconds, say=say)))
            ingest = stack.enter_context(
                contextlib.closing(
                    IngestService(store, policy, source=site["ingest_source"], emit=self._producer.receive, say=say)
                )
            )

            def start(handler: type[ServiceHandler], port: int, setting: str, **state: object) -> str:
                server = serve(bind(handler, **state), address, port, settings=("address", setting))
                return stack.enter_context(server).url

            self.producer_url = start(ProducerHandler, producer_port, "producer_port", producer=self._producer)
            self.cartd_url = start(CartHandler, cartd_port, "cartd_port", carts=carts, store=store)
            self.ingest_url = start(IngestHandler, ingest_port, "ingest_port", ingest=ingest)
            self.policy_url = start(PolicyHandler, policy_port, "policy_port", policy=policy, store=store)
            addresses = self.directory / _ADDRESSES
            addresses.write_text(json.dumps(self.environ()), encoding="ascii")
            stack.callback(addresses.unlink, missing_ok=True)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, finish running tasks, and end all threads.

        Queued notifications are still delivered, within five seconds. Queued bundles are kept for the next start.
        """
        self._stack.close()

    def environ(self) -> dict[str, str]:
        """The environment variables with which this project's commands and library use the sandbox."""
        return {
            "PACIFICA_PRODUCER_URL": self.producer_url,
            "PACIFICA_CARTD_URL": self.cartd_url,
            "PACIFICA_INGEST_URL": self.ingest_url,
            "PACIFICA_POLICY_URL": self.policy_url,
        }

    def transactions(self) -> list[int]:
        """The numbers of the complete transactions, the oldest first."""
        return self._store.transactions()

    def notification(self, transaction_id: int) -> bytes:
        """The notification of a transaction, as the producer sends it to a subscription without extensions.

        Raises:
            StateError: The transaction does not exist.
        """
        event = self._store.event(transaction_id)
        if event is None:
            raise StateError(
                f"the sandbox has no transaction {transaction_id}", "choose one that transactions() returns"
            )
        return event

    def wait_for_transaction(self, after: int = 0, timeout: float = 60.0) -> int:
        """Wait until a transaction with a number above ``after`` is complete.

        Args:
            after: A transaction's number.
            timeout: The time to wait, in seconds.

        Returns:
            The number of the first such transaction.

        Raises:
            TimeoutError: No such transaction was complete in time.
        """
        number = self._store.wait_for_completed(after, timeout)
        if number is None:
            raise TimeoutError(f"no transaction above {after} was complete after {timeout:g} seconds")
        return number

    def read(self, transaction_id: int) -> dict[str, bytes]:
        """The contents of a transaction's files by ``subdir/name``, all in memory.

        Raises:
            StateError: The transaction does not exist.
        """
        contents = {}
        for record in json.loads(self.notification(transaction_id))["data"]:
            if record["destinationTable"] == "Files" and (path := self._store.file(record["_id"])):
                contents[f"{record['subdir']}/{record['name']}".lstrip("/")] = path.read_bytes()
        return contents

    def subscriptions(self) -> list[dict[str, Any]]:
        """All subscriptions that are not deleted, as the producer returns them to their owners."""
        return self._producer.subscriptions.kept()


@contextlib.contextmanager
def sandbox_environ(directory: str | os.PathLike[str]) -> Iterator[dict[str, str]]:
    """Yield the environment variables of the sandbox in a directory, and start it if it is not running.

    Raises:
        StateError: The directory cannot be used.
    """
    with contextlib.ExitStack() as stack:
        try:
            environ = stack.enter_context(Sandbox(directory)).environ()
        except InUse:
            environ = _addresses(Path(directory))
        yield environ


def _addresses(directory: Path) -> dict[str, str]:
    try:
        addresses: dict[str, str] = json.loads((directory / _ADDRESSES).read_bytes())
    except (OSError, ValueError) as error:
        raise StateError(f"the sandbox in {directory} is starting or stopping", "try again") from error
    return addresses


def read_site(directory: Path) -> dict[str, str]:
    """The arguments ``project_field`` and ``ingest_source`` of the last sandbox of a directory."""
    try:
        kept: dict[str, str] = json.loads((directory / _SITE).read_bytes())
        return _TODAY | kept
    except FileNotFoundError:
        return _TODAY
    except (OSError, ValueError, TypeError) as error:
        raise StateError(f"cannot read {directory / _SITE}: {error}", "remove this file") from error


def _check(site: Mapping[str, str]) -> None:
    project_field, ingest_source = site["project_field"], site["ingest_source"]
    if project_field not in ("project", "proposal"):
        raise ConfigurationError(
            f"project_field is {project_field!r}", "choose project, or proposal for older versions of Pacifica"
        )
    try:
        ingest_source.format(id=1)
    except (LookupError, ValueError) as error:
        raise ConfigurationError(
            f"ingest_source {ingest_source!r} is not a format string", "use no braces other than {id}"
        ) from error


def _directory(directory: str | os.PathLike[str] | None) -> contextlib.AbstractContextManager[Path]:
    if directory is None:
        return temporary_directory("pacifica-sandbox-")
    return contextlib.nullcontext(Path(directory).absolute())


def _guarded(on_event: Callable[[str], None] | None) -> Callable[[str], None]:
    def say(sentence: str) -> None:
        # An error of the callback must not stop the delivery of a notification.
        try:
            if on_event is not None:
                on_event(sentence)
        except Exception:
            _LOG.exception("the on_event callback of the sandbox raised an error")

    return say
