"""The frame of every command: reads the settings, sets up logging, and returns the exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable

from pacifica_notifications_consumer.errors import Cancelled, PacificaError
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import OPTIONS, Settings
from pacifica_notifications_runner.process import logs

#: As the shell reports a program that a closed pipe ended.
_BROKEN_PIPE = 128 + signal.SIGPIPE


def execute(program: str, arguments: argparse.Namespace, work: Callable[[Settings], int]) -> int:
    """Do a command's work and return its exit status.

    Args:
        program: What the command is called, for its messages.
        arguments: The parsed command line.
        work: Takes the settings and returns the exit status.
    """
    # Some supervisors have it ignored, and then no child's end can be learnt.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A mistake in the settings must be told in the form that was asked for, too.
    option = OPTIONS["log_format"]
    log_format = arguments.log_format or os.environ.get(option.variable) or option.default
    logs.set_up_logging(log_format, verbose=False)
    try:
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
        # Whoever read the output has gone. Python would complain about that once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
