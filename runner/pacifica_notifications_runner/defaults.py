"""The default name, state directory and cache of environments of a consumer."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.settings.converters import header_text
from pacifica_notifications_consumer.settings.option import SECTION
from pacifica_notifications_consumer.system.files import make_private

log = logging.getLogger(__name__)


def require_username(username: str | None) -> str:
    """Require a user name: the producer would disable a subscription without one at the first notification."""
    if not username:
        raise ConfigurationError(
            "the user name is missing", "set `username` to the Pacifica user of the subscription (a network id)"
        )
    return username


def default_name(archive: Path, username: str | None, *, trial: bool = False) -> str:
    """Name a consumer after its user, host and archive: two of one name would ignore each other's uploads.

    A name that a deployed consumer could not have is refused, or for a trial written in ASCII.
    """
    name = f"{username or 'anonymous'}@{socket.gethostname()}:{archive.resolve().stem}".replace("/", "_")
    try:
        return header_text(name)
    except ValueError as error:
        if trial:
            return ascii(name)[1:-1]
        raise ConfigurationError(
            f"a consumer cannot be called {name!r}: {error}", f"rename {archive}, or set `name`"
        ) from None


def default_state_dir(name: str) -> Path:
    """The state directory of a consumer, in the user's directory of state."""
    base = _user_directory("XDG_STATE_HOME", ".local/state")
    if base is None:
        raise ConfigurationError("this user has no home directory", "set `state_dir`")
    return base / SECTION / name


def default_venv_cache() -> Path | None:
    """The user's own cache of environments, which is created; None if the user has no place for it."""
    base = _user_directory("XDG_CACHE_HOME", ".cache")
    if base is None:
        return None
    directory = base / SECTION / "environments"
    try:
        make_private(directory)
        # With sudo the home may be that of another user, who could change what is in the cache.
        if {path.stat().st_uid for path in (base, directory.parent, directory)} == {os.geteuid()}:
            return directory
        reason = "it belongs to another user"
    except OSError as error:
        reason = str(error.strerror)
    log.info("no environment is kept, since %s cannot be used: %s", directory, reason)
    return None


def _user_directory(variable: str, default: str) -> Path | None:
    """See https://specifications.freedesktop.org/basedir/latest/, by which relative paths are ignored."""
    base = Path(os.environ.get(variable, ""))
    if base.is_absolute():
        return base
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / default if home.name else None
