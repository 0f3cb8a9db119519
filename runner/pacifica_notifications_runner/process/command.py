"""The frame of every command: reads the settings, sets up logging, and returns the exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable

from pacifica_notifications_consumer.errors import Cancelled, ConfigurationError, PacificaError
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import OPTIONS, Settings
from pacifica_notifications_runner.process import logs

#: The status that a shell reports for a program ended by a closed pipe.
_BROKEN_PIPE = 128 + signal.SIGPIPE


def execute(program: str, arguments: argparse.Namespace, work: Callable[[Settings], int]) -> int:
    """Do a command's work with the settings, report its errors under the program's name, and return its status."""
    # Some supervisors ignore this signal, and then the exit statuses of children are lost (wait(2)).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Errors in the settings are reported in the requested format, too.
    option = OPTIONS["log_format"]
    log_format = arguments.log_format or os.environ.get(option.variable) or option.default
    logs.set_up_logging(log_format, verbose=False)
    try:
        if sys.platform != "linux" and getattr(arguments, "needs_linux", False):
            raise ConfigurationError(
                f"this command needs Linux, and this system is {sys.platform}",
                "run it on Linux, such as in a container; init, check, pack, run and sandbox work here, too",
            )
        settings = command_line.read_settings(arguments)
        log_format = settings.log_format
        logs.set_up_logging(log_format, verbose=settings.verbose)
        return work(settings)
    except PacificaError as error:
        logs.report(program, error, log_format)
        return error.exit_status
    except KeyboardInterrupt:
        logs.report(program, Cancelled("stopped"), log_format)
        return Cancelled.exit_status
    except BrokenPipeError:
        # The reader of the output has ended; Python would report that once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
