"""Where the status page of a running consumer is, told in its state directory to whoever may read that."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import attrs

from pacifica_notifications_consumer.errors import StateError, explained
from pacifica_notifications_consumer.system.files import replacing

_FILE = "status.json"


@attrs.frozen
class StatusAddress:
    """Where a status page is.

    Args:
        url: Its address.
        token: What lets in.
    """

    url: str
    token: str = attrs.field(repr=False)

    @property
    def link(self) -> str:
        """The address that lets in whoever opens it."""
        return f"{self.url}/?token={self.token}"

    @contextlib.contextmanager
    def told_in(self, state_dir: Path) -> Iterator[None]:
        """Tell it, to this user only, for as long as the context.

        Raises:
            StateError: The state directory cannot be written to.
        """
        path = state_dir / _FILE
        advice = "check the disk's space and the access rights of the state directory"
        with explained(StateError, f"cannot write {path}", advice), replacing(path, mode=0o600) as file:
            file.write(json.dumps(attrs.asdict(self)).encode("ascii"))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    @classmethod
    def find(cls, state_dir: Path) -> StatusAddress:
        """Find that of the consumer which is running in a state directory.

        Raises:
            StateError: It tells none, or another user runs it.
        """
        path = state_dir / _FILE
        try:
            told = json.loads(path.read_bytes())
            return cls(told["url"], told["token"])
        except FileNotFoundError:
            raise StateError(
                f"the consumer of {state_dir} is starting or stopping", "try again in some seconds"
            ) from None
        except (OSError, ValueError, LookupError, TypeError) as error:
            reason = getattr(error, "strerror", None) or "it is damaged"
            raise StateError(f"cannot read {path}: {reason}", "do this as the user who runs the consumer") from error
