"""The context of log lines for formatters: the job, the notification and the trace that a line is about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

_facts: ContextVar[Mapping[str, object]] = ContextVar("pacifica_log_context", default=MappingProxyType({}))


@contextlib.contextmanager
def concerning(**facts: object) -> Iterator[None]:
    """Add facts to all log lines of this thread within the context; empty facts are left out."""
    before = _facts.set({**_facts.get(), **{name: fact for name, fact in facts.items() if fact not in (None, "")}})
    try:
        yield
    finally:
        _facts.reset(before)


def log_facts() -> Mapping[str, object]:
    """The facts of the current context: ``job`` and ``notification`` (numbers), ``event`` and ``trace`` (texts)."""
    return _facts.get()
