"""The default name and state directory of a consumer."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.settings.converters import header_text
from pacifica_notifications_consumer.settings.option import SECTION


def require_username(username: str | None) -> str:
    """Require a user name: the producer would disable a subscription without one at the first notification."""
    if not username:
        raise ConfigurationError(
            "the user name is missing", "set `username` to the Pacifica user of the subscription (a network id)"
        )
    return username


def default_name(archive: Path, username: str | None) -> str:
    """Name a consumer after its user, host and archive: two of one name would ignore each other's uploads."""
    name = f"{username or 'anonymous'}@{socket.gethostname()}:{archive.resolve().stem}".replace("/", "_")
    try:
        return header_text(name)
    except ValueError as error:
        raise ConfigurationError(
            f"a consumer cannot be called {name!r}: {error}", f"rename {archive}, or set `name`"
        ) from None


def default_state_dir(name: str) -> Path:
    """The state directory of a consumer, in the user's directory of state."""
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base) / SECTION / name
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.name:
        raise ConfigurationError("this user has no home directory", "set `state_dir`")
    return home / ".local" / "state" / SECTION / name
