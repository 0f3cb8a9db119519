"""Consume the notifications of the Pacifica scientific data management platform.

Names load when first used, so that importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module

# The name is what type checkers go by; importing typing would take longer than all the rest here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .environment.builder import VenvBuilder
    from .filter.filter import Filter
    from .queue.job_runner import JobRunner
    from .transfer.downloader import download
    from .transfer.uploader import upload

__all__ = ["Filter", "JobRunner", "VenvBuilder", "download", "upload"]

# Functions live in modules named after their agents: a module `download` would hide the function of that name.
_HOMES = {
    "Filter": "filter.filter",
    "JobRunner": "queue.job_runner",
    "VenvBuilder": "environment.builder",
    "download": "transfer.downloader",
    "upload": "transfer.uploader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
