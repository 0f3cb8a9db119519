"""What the commands tell people and machines about themselves, on standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
import textwrap
import time
from typing import IO

from pacifica_notifications_consumer.errors import Cancelled, PacificaError
from pacifica_notifications_consumer.system.log_context import log_facts
from pacifica_notifications_runner.options.settings import with_flags

_FORM, _TIME_FORM = "%(asctime)s %(levelname)-8s %(message)s", "%Y-%m-%d %H:%M:%S"
#: Whose every word somebody may want who looks for a fault.
_TALKATIVE = ("celery", "kombu", "amqp")
_QUIET, _RESET = "\033[2m", "\033[0m"
_COLOURS = {
    logging.DEBUG: _QUIET,
    logging.WARNING: "\033[33m",
    logging.ERROR: "\033[31m",
    logging.CRITICAL: "\033[1;31m",
}


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, with the job, the notification and the trace that it is about."""

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
    """One line of text, with the flags of the settings that it names."""

    def format(self, record: logging.LogRecord) -> str:
        return with_flags(super().format(record))


class _ColourFormatter(_TextFormatter):
    """For people at a terminal: warnings and errors stand out."""

    def format(self, record: logging.LogRecord) -> str:
        plain = super().format(record)
        colour = _COLOURS.get(record.levelno)
        return f"{colour}{plain}{_RESET}" if colour else plain


def wants_colour(stream: IO[str] | None) -> bool:
    """Whether people look at it who have not said that they want no colour (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream is not None and stream.isatty() and not plain


def set_up_logging(log_format: str, *, verbose: bool) -> None:
    """Log to standard error, as text or as JSON lines."""
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        kind = _ColourFormatter if wants_colour(sys.stderr) else _TextFormatter
        handler.setFormatter(kind(_FORM, _TIME_FORM))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("pacifica_notifications_consumer", "pacifica_notifications_runner"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.ERROR)
    # After an outage, that messages of before cannot be acknowledged is no news, and does no harm.
    logging.getLogger("celery.worker.request").setLevel(logging.INFO if verbose else logging.CRITICAL + 1)


def report(program: str, error: PacificaError, log_format: str = "text") -> None:
    """Say why a command ends early: one sentence, and below it what another program printed on the matter."""
    if log_format == "json":
        logging.getLogger(__name__).critical("%s%s", error, f"\n{error.output}" if error.output else "")
        return
    label = "" if isinstance(error, Cancelled) else "error: "
    if label and wants_colour(sys.stderr):
        label = f"{_COLOURS[logging.ERROR]}error:{_RESET} "
    print(f"{program}: {label}{with_flags(str(error))}", file=sys.stderr)  # noqa: T201  (a command's own message)
    if error.output:
        print(textwrap.indent(error.output, "    "), file=sys.stderr)  # noqa: T201
