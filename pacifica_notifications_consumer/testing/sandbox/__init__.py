"""An embedded Pacifica on one machine, for authors who have none at hand and for tests.

It speaks the wire formats of the producer, of cartd, ingest and policy, with an archive kept in a directory.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from ...cloudevents.announcement import Identity
from ...errors import ConfigurationError, InUse, StateError
from ...http.server import serve
from ...system.temporary import temporary_directory
from .cartd import CartHandler, Carts
from .ingest import IngestHandler, IngestService
from .policy import PolicyHandler, PolicyService
from .producer import ProducerHandler, ProducerService
from .store import Store
from .wire import ServiceHandler, bind

__all__ = ["DEFAULT_INGEST_SOURCE", "Sandbox", "sandbox_environ"]

_LOG = logging.getLogger(__name__)
#: The file in its directory that tells where it listens.
_ADDRESSES = "addresses.json"
DEFAULT_INGEST_SOURCE = Identity().source


class Sandbox:
    """Four of Pacifica's services, listening from construction until `close`.

    Every user is a member of every project, and no user name or password is asked for: keep it on loopback.

    Args:
        directory: Keeps files, transactions, subscriptions and ids, so that a sandbox started on it again continues.
            None for a temporary one, which `close` removes.
        address: The address to listen on.
        producer_port: The port of the producer (notifications); 0 for a free one, as with the others.
        cartd_port: The port of cartd.
        ingest_port: The port of ingest.
        policy_port: The port of policy.
        staging_seconds: How long a cart takes at least.
        project_field: ``project``, or ``proposal`` for a Pacifica of the time when it was called so.
        ingest_source: The ``source`` of the events; ``{id}`` in it stands for the transaction's number.
        users: The number of each user by network id; None to take every user for known.
        on_event: Called with a sentence on each thing that happens, from many threads. No credentials are in it.

    Raises:
        ConfigurationError: An argument is wrong.
        EndpointError: A port cannot be had.
        StateError: The directory cannot be used, or another sandbox uses it.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        address: str = "127.0.0.1",
        producer_port: int = 0,
        cartd_port: int = 0,
        ingest_port: int = 0,
        policy_port: int = 0,
        staging_seconds: float = 0.0,
        project_field: str = "project",
        ingest_source: str = DEFAULT_INGEST_SOURCE,
        users: Mapping[str, int] | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        _check(project_field, ingest_source)
        say = _careful(on_event)
        policy = PolicyService(project_field=project_field, users=users)
        with contextlib.ExitStack() as stack:
            self.directory = stack.enter_context(_directory(directory))
            self._store = store = stack.enter_context(contextlib.closing(Store(self.directory)))
            self._producer = stack.enter_context(contextlib.closing(ProducerService(store, policy, say)))
            carts = stack.enter_context(contextlib.closing(Carts(store, staging_seconds=staging_seconds, say=say)))
            ingest = stack.enter_context(
                contextlib.closing(
                    IngestService(store, policy, source=ingest_source, emit=self._producer.receive, say=say)
                )
            )

            def start(handler: type[ServiceHandler], port: int, **state: object) -> str:
                return stack.enter_context(serve(bind(handler, **state), address, port)).url

            self.producer_url = start(ProducerHandler, producer_port, producer=self._producer)
            self.cartd_url = start(CartHandler, cartd_port, carts=carts, store=store)
            self.ingest_url = start(IngestHandler, ingest_port, ingest=ingest)
            self.policy_url = start(PolicyHandler, policy_port, policy=policy, store=store)
            addresses = self.directory / _ADDRESSES
            addresses.write_text(json.dumps(self.environ()), encoding="ascii")
            stack.callback(addresses.unlink, missing_ok=True)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, finish what has begun, and end all threads; bundles that wait are kept for the next start.

        Notifications that are queued are still delivered, within five seconds.
        """
        self._stack.close()

    def environ(self) -> dict[str, str]:
        """The variables that point this project's commands and library at the sandbox."""
        return {
            "PACIFICA_PRODUCER_URL": self.producer_url,
            "PACIFICA_CARTD_URL": self.cartd_url,
            "PACIFICA_INGEST_URL": self.ingest_url,
            "PACIFICA_POLICY_URL": self.policy_url,
        }

    def transactions(self) -> list[int]:
        """The numbers of the complete transactions, oldest first."""
        return self._store.transactions()

    def notification(self, transaction_id: int) -> bytes:
        """The event of a transaction as the producer sends it to a subscription without extensions.

        Raises:
            StateError: There is no such transaction.
        """
        event = self._store.event(transaction_id)
        if event is None:
            raise StateError(
                f"the sandbox holds no transaction {transaction_id}", "choose one of those that transactions() lists"
            )
        return event

    def wait_for_transaction(self, after: int = 0, timeout: float = 60.0) -> int:
        """Wait until a transaction with a number above ``after`` is complete.

        Args:
            after: A transaction's number.
            timeout: How many seconds to wait.

        Returns:
            The number of the first one to be complete.

        Raises:
            TimeoutError: There was none in time.
        """
        number = self._store.wait_for_completed(after, timeout)
        if number is None:
            raise TimeoutError(f"no transaction above {after} was complete after {timeout:g} seconds")
        return number

    def read(self, transaction_id: int) -> dict[str, bytes]:
        """The files of a transaction, contents by ``subdir/name``, all in memory.

        Raises:
            StateError: There is no such transaction.
        """
        contents = {}
        for record in json.loads(self.notification(transaction_id))["data"]:
            if record["destinationTable"] == "Files" and (path := self._store.file(record["_id"])):
                contents[f"{record['subdir']}/{record['name']}".lstrip("/")] = path.read_bytes()
        return contents

    def subscriptions(self) -> list[dict[str, Any]]:
        """All subscriptions that are not deleted, as the producer shows them to their owners."""
        return self._producer.subscriptions.kept()


@contextlib.contextmanager
def sandbox_environ(directory: Path) -> Iterator[dict[str, str]]:
    """The variables that lead to the sandbox in a directory: to the one that runs there, or else to one made for this.

    Raises:
        StateError: The directory cannot be used.
    """
    with contextlib.ExitStack() as stack:
        try:
            environ = stack.enter_context(Sandbox(directory)).environ()
        except InUse:
            environ = _addresses(directory)
        yield environ


def _addresses(directory: Path) -> dict[str, str]:
    try:
        addresses: dict[str, str] = json.loads((directory / _ADDRESSES).read_bytes())
    except (OSError, ValueError) as error:
        raise StateError(f"the sandbox in {directory} is starting or stopping", "try again") from error
    return addresses


def _check(project_field: str, ingest_source: str) -> None:
    if project_field not in ("project", "proposal"):
        raise ConfigurationError(
            f"a transaction has no field {project_field!r}", "choose project, or proposal for an older Pacifica"
        )
    try:
        ingest_source.format(id=1)
    except (LookupError, ValueError) as error:
        raise ConfigurationError(
            f"the ingest source {ingest_source!r} is no format string", "use no braces but {id}"
        ) from error


def _directory(directory: Path | str | None) -> contextlib.AbstractContextManager[Path]:
    if directory is None:
        return temporary_directory("pacifica-sandbox-")
    return contextlib.nullcontext(Path(directory).absolute())


def _careful(on_event: Callable[[str], None] | None) -> Callable[[str], None]:
    def say(sentence: str) -> None:
        # A sentence that cannot be said must not keep a notification from its consumer.
        try:
            if on_event is not None:
                on_event(sentence)
        except Exception:
            _LOG.exception("on_event failed")

    return say
