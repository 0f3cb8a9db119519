"""What a consumer is called, and where its state lives, unless somebody says so."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.settings.option import SECTION


def require_username(username: str | None) -> str:
    """Insist on a user name.

    Raises:
        ConfigurationError: There is none. The producer would take the subscription of a nameless user, and disable it
            at the first notification.
    """
    if not username:
        raise ConfigurationError(
            "there is no user name", "set `username` to the Pacifica user who subscribes (a network id)"
        )
    return username


def default_name(archive: Path, username: str | None) -> str:
    """Name a consumer after who runs it, where, and its archive.

    Two consumers of one name would take each other's uploads for their own, so the archive's name alone, which is
    mostly ``consumer.zip``, does not do.
    """
    return f"{username or 'nobody'}@{socket.gethostname()}:{archive.resolve().stem}".replace("/", "_")


def default_state_dir(name: str) -> Path:
    """The state directory of a consumer where the system keeps such things.

    Raises:
        ConfigurationError: The user has no home directory.
    """
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base) / SECTION / name
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.name:
        raise ConfigurationError("this user has no home directory", "set `state_dir`")
    return home / ".local" / "state" / SECTION / name
