"""The subcommand environments: lists or prunes a cache of environments."""

from __future__ import annotations

import argparse
import contextlib
from datetime import datetime
from typing import Any

from pacifica_notifications_consumer.environment.cache import CachedVenv, VenvCache
from pacifica_notifications_consumer.errors import ConfigurationError, StateError, explained
from pacifica_notifications_runner import defaults
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.formats import clock, size
from pacifica_notifications_runner.process.terminal import say

DESCRIPTION = """\
List the environments in the cache --venv-cache, by default in that of check and run, the last used first. With KEY,
list those whose keys begin with it, and their packages as requirements that install the same versions. With --prune,
remove those that exceed the age or the total size of --venv-cache-keep, except those that a running consumer uses.
"""

EPILOG = """\
Exit status: 0 done; 2 wrong command line; 73 the cache cannot be read; 78 wrong settings, or no
environment with that key.
"""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    settings = ("venv_cache", "venv_cache_keep")
    parser = command_line.add_subcommand(
        subparsers, "environments", show, "list or remove cached environments", DESCRIPTION, EPILOG, settings=settings
    )
    parser.set_defaults(defaulted=settings[:1])
    parser.add_argument("key", nargs="?", metavar="KEY", help="show the packages in those whose keys begin with KEY")
    parser.add_argument("--prune", action="store_true", help="remove those that exceed --venv-cache-keep")


def show(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show or remove environments."""
    directory = settings.venv_cache or defaults.default_venv_cache()
    if directory is None:
        raise ConfigurationError("this user has no cache of environments", "set `venv_cache` to its directory")
    problem, advice = f"cannot read the cache {directory}", "run this as the user of its consumers"
    # A missing cache is an empty one.
    with explained(StateError, problem, advice), contextlib.suppress(FileNotFoundError):
        next(directory.iterdir(), None)
    cache = VenvCache(directory, settings.venv_cache_keep)
    if arguments.prune:
        for kept in cache.prune():
            say(f"removed {_describe(kept)}")
        return 0
    found = [kept for kept in cache.kept() if kept.key.startswith(arguments.key or "")]
    if arguments.key and not found:
        raise ConfigurationError(
            f"no environment has a key that begins with {arguments.key}", "leave it out to list all environments"
        )
    for kept in found:
        say(_describe(kept))
        if arguments.key:
            say(kept.venv.lock.read_text(encoding="utf-8").rstrip())
    return 0


def _describe(venv: CachedVenv) -> str:
    used = datetime.fromtimestamp(venv.used_at).astimezone().isoformat()
    return f"{venv.key}  {size(venv.size):>10}  last used {clock(used)}  {venv.venv.path}"
