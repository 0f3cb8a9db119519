"""The subcommand sandbox: serves an embedded Pacifica on this machine."""

from __future__ import annotations

import argparse
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_consumer.testing.sandbox.sandbox import AS_OF, read_site
from pacifica_notifications_runner.authoring.sandbox_page import PORT, sandbox_page
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.terminal import say

DESCRIPTION = """\
Serve an embedded Pacifica on this machine, for trying consumers: the producer, cartd, ingest and the parts of policy
that consumers use, on the ports of the real services, with the archive in a directory. It runs until SIGINT or SIGTERM,
and continues with the archive of its directory when it is started again. All users of this machine can use it.
"""

EPILOG = """\
Exit status: 0 stopped by a signal; 2 wrong command line; 71 a port is in use; 73 the directory is not usable;
78 wrong settings.
"""

#: The default directory of the archive.
DIRECTORY = Path("pacifica-sandbox")
_PORTS = ("producer_port", "cartd_port", "ingest_port", "policy_port")


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "sandbox", serve, "serve an embedded Pacifica on this machine", DESCRIPTION, EPILOG, settings=_PORTS
    )
    help_text = f"the directory of its archive (default: {DIRECTORY})"
    parser.add_argument("directory", nargs="?", type=Path, default=DIRECTORY, metavar="DIR", help=help_text)
    parser.add_argument(
        "--as-of",
        type=int,
        choices=AS_OF,
        metavar="YEAR",
        help="be the Pacifica of 2019, for which the example of the specification was written: a project is called a "
        "proposal, and events have another source; the directory stays of that year",
    )


def serve(arguments: argparse.Namespace, settings: Settings) -> int:
    """Serve until a signal comes."""
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        sandbox = Sandbox(
            arguments.directory,
            **AS_OF.get(arguments.as_of, {}),
            on_event=say,
            producer_port=settings.producer_port,
            cartd_port=settings.cartd_port,
            ingest_port=settings.ingest_port,
            policy_port=settings.policy_port,
        )
        stack.enter_context(sandbox)
        page = stack.enter_context(sandbox_page(sandbox))
        year = next((f" of {year}" for year, site in AS_OF.items() if site == read_site(sandbox.directory)), "")
        say(f"A sandbox{year} is running, its archive in {sandbox.directory}. To use it from another shell:")
        for variable, value in sandbox.environ().items():
            say(f"  export {variable}={value}")
        if page.server_port != PORT:
            say(f"Port {PORT} is in use: the page for uploads is on another port.")
        chosen = "" if arguments.directory == DIRECTORY else f" --sandbox {shlex.quote(str(arguments.directory))}"
        say(f"To upload files: {page.url} in a browser, or `pacifica-notifications-consumer sandbox upload{chosen}`.")
        say("Stop it with Ctrl-C.")
        signals.stop.wait()
    return 0
