"""The address of a running consumer's status page, kept in a file in its state directory."""

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
    """The address of a status page, and its token."""

    url: str
    token: str = attrs.field(repr=False)

    @property
    def link(self) -> str:
        """The address with the token, for a browser."""
        return f"{self.url}/?token={self.token}"

    @contextlib.contextmanager
    def kept_in(self, state_dir: Path) -> Iterator[None]:
        """Keep the address in a file that only this user may read, until the context ends."""
        path = state_dir / _FILE
        advice = "check the disk's space and the access rights of the state directory"
        with explained(StateError, f"cannot write {path}", advice), replacing(path) as file:
            file.write(json.dumps(attrs.asdict(self)).encode("ascii"))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    @classmethod
    def find(cls, state_dir: Path) -> StatusAddress:
        """Read the address of the consumer that is running in a state directory."""
        path = state_dir / _FILE
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise StateError(f"the consumer of {state_dir} is starting or stopping", "try again soon") from None
        except (OSError, ValueError, TypeError) as error:
            reason = getattr(error, "strerror", None) or "it is damaged"
            raise StateError(f"cannot read {path}: {reason}", "run this as the user of the consumer") from error
