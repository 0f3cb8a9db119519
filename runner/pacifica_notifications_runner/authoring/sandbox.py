"""The subcommand sandbox: serves an embedded Pacifica on this machine."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_runner.authoring.sandbox_page import sandbox_page
from pacifica_notifications_runner.options import groups as options
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.terminal import say

DESCRIPTION = """\
Serve an embedded Pacifica on this machine, for trying consumers: the producer, cartd, ingest and the parts of policy
that consumers ask, on the ports where the real services listen, with the archive in a directory. It runs until SIGINT
or SIGTERM, and continues with the archive of its directory when it is started again. All users of this machine can use
it.
"""

EPILOG = """\
Exit status: 0 stopped by a signal; 2 wrong command line; 71 a port cannot be had; 73 the directory is not usable;
78 wrong settings.
"""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = options.add_subcommand(
        subparsers, "sandbox", "serve an embedded Pacifica on this machine", DESCRIPTION, EPILOG
    )
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        default=Path("pacifica-sandbox"),
        metavar="DIR",
        help="the directory of its archive (default: pacifica-sandbox)",
    )
    options.add_options(parser, options.SANDBOX_OPTIONS)
    parser.set_defaults(command=serve)


def serve(arguments: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Serve until a signal comes."""
    ports = {option.name: settings[option.name] for option in options.SANDBOX_PORTS}
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        sandbox = stack.enter_context(Sandbox(arguments.directory, on_event=say, **ports))
        page = stack.enter_context(sandbox_page(sandbox, settings["page_port"]))
        say(f"A sandbox is running, its archive in {sandbox.directory}. To use it from another shell:")
        for variable, value in sandbox.environ().items():
            say(f"  export {variable}={value}")
        say(f"To upload files: {page.url} in a browser, or `pacifica-notifications-consumer sandbox upload`.")
        say("Stop it with Ctrl-C.")
        signals.stop.wait()
    return 0
