"""What the commands tell people and machines about themselves, on standard error."""

from __future__ import annotations

import json
import logging
import sys
import textwrap
import time

from pacifica_notifications_consumer.errors import Cancelled, PacificaError


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(log_format: str, *, verbose: bool) -> None:
    """Log to standard error, as text or as JSON lines."""
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(message)s", "%Y-%m-%d %H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("pacifica_notifications_consumer", "pacifica_notifications_runner"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)


def report(program: str, error: PacificaError, log_format: str = "text") -> None:
    """Say why a command ends early: one sentence, and below it what another program printed on the matter."""
    if log_format == "json":
        logging.getLogger(__name__).critical("%s%s", error, f"\n{error.output}" if error.output else "")
        return
    label = "" if isinstance(error, Cancelled) else "error: "
    print(f"{program}: {label}{error}", file=sys.stderr)  # noqa: T201  (a command's own message)
    if error.output:
        print(textwrap.indent(error.output, "    "), file=sys.stderr)  # noqa: T201
