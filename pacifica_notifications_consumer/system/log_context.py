"""What a line of the log is about, for formatters that can show it: the job, the notification, the trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

_facts: ContextVar[Mapping[str, object]] = ContextVar("pacifica_log_context", default=MappingProxyType({}))


@contextlib.contextmanager
def concerning(**facts: object) -> Iterator[None]:
    """Say of what is logged in the context, on this thread, what it is about; empty facts are left out."""
    before = _facts.set({**_facts.get(), **{name: fact for name, fact in facts.items() if fact not in (None, "")}})
    try:
        yield
    finally:
        _facts.reset(before)


def log_facts() -> Mapping[str, object]:
    """What is logged now is about this: ``job`` and ``notification`` (numbers), ``event`` and ``trace`` (texts)."""
    return _facts.get()
