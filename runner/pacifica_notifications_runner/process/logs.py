"""The commands' log and error messages, on standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import textwrap
import time

from pacifica_notifications_consumer.errors import Cancelled, PacificaError, escaped
from pacifica_notifications_consumer.system.log_context import log_facts
from pacifica_notifications_runner.options.settings import with_flags
from pacifica_notifications_runner.process import terminal

_FORMAT, _TIME_FORMAT = "%(asctime)s %(levelname)-8s %(message)s", "%Y-%m-%d %H:%M:%S"
#: Loggers whose messages are only needed for debugging; that of urllib3 shows heads of services in full.
_VERBOSE_ONLY = ("celery", "kombu", "amqp", "urllib3")
_COLOURS = {
    logging.DEBUG: terminal.FAINT,
    logging.WARNING: terminal.YELLOW,
    logging.ERROR: terminal.RED,
    logging.CRITICAL: terminal.BOLD_RED,
}


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, with the job, the notification and the trace that the message concerns."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": with_flags(record.getMessage()),
            **log_facts(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _TextFormatter(logging.Formatter):
    """Lines of text; at a terminal, warnings and errors are coloured.

    Nothing in a message can look like another one, or command a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        text, colour = with_flags(super().format(record)), _COLOURS.get(record.levelno)
        text = escaped(text, "\n\t").replace("\n", "\n    ")
        return terminal.coloured(text, colour, sys.stderr) if colour else text


def set_up_logging(log_format: str, *, verbose: bool) -> None:
    """Log to standard error, as text or as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter(_FORMAT, _TIME_FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("pacifica_notifications_consumer", "pacifica_notifications_runner"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _VERBOSE_ONLY:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.ERROR)
    # Messages received before an outage cannot be acknowledged after it: an error that is expected and harmless.
    logging.getLogger("celery.worker.request").setLevel(logging.INFO if verbose else logging.CRITICAL + 1)


def report(program: str, error: PacificaError, log_format: str = "text") -> None:
    """Print why a command ends early, and below it the output of the program that failed, if there is any."""
    if log_format == "json":
        logging.getLogger(__name__).critical("%s%s", error, f"\n{error.output}" if error.output else "")
        return
    label = "" if isinstance(error, Cancelled) else f"{terminal.coloured('error:', terminal.RED, sys.stderr)} "
    terminal.note(f"{program}: {label}{with_flags(str(error))}")
    if error.output:
        terminal.note(textwrap.indent(error.output, "    "))
