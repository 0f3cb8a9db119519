"""Fixtures for the tests of consumers; pytest loads them automatically if this package is installed.

``pacifica_sandbox`` is an embedded Pacifica, ``pacifica_notification`` uploads files as a transaction and returns its
notification, and ``pacifica_consumer`` runs the consumer in whose directory, or below it, the test is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # pytest always loads this module; modules that only the fixtures need are imported there.
    from .consumer import TriedConsumer
    from .sandbox import Sandbox

Files = Mapping[str, str | bytes] | Path | str
MakeNotification = Callable[..., dict[str, Any]]


@pytest.fixture
def pacifica_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """An empty embedded Pacifica for one test."""
    from .sandbox import Sandbox

    with Sandbox(tmp_path_factory.mktemp("pacifica") / "sandbox") as sandbox:
        yield sandbox


@pytest.fixture
def pacifica_notification(pacifica_sandbox: Sandbox) -> MakeNotification:
    """A function that uploads files as a transaction and returns its notification.

    Its arguments are the files, as a directory or as a mapping of paths to contents, and the keywords ``submitter``,
    ``project``, ``instrument`` and ``key_values``, which are optional.
    """
    from ..settings.services import Services
    from .instrument import files_in, send_files

    def make(files: Files, **facts: Any) -> dict[str, Any]:
        contents: dict[str, Path | bytes]
        if isinstance(files, Mapping):
            contents = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
        else:
            contents = {**files_in(Path(files))}
        before = set(pacifica_sandbox.transactions())
        send_files(contents, services=Services.from_environment(pacifica_sandbox.environ()), **facts)
        (number,) = set(pacifica_sandbox.transactions()) - before
        notification: dict[str, Any] = json.loads(pacifica_sandbox.notification(number))
        return notification

    return make


@pytest.fixture
def pacifica_consumer(
    request: pytest.FixtureRequest, pacifica_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> TriedConsumer:
    """The consumer in the nearest directory above the test that has a ``__main__.py``.

    Its entry-point runs with the Python of the tests, in which its requirements must be installed.
    """
    from .consumer import TriedConsumer

    for directory in request.path.parents:
        if (directory / "__main__.py").is_file():
            return TriedConsumer(directory, pacifica_sandbox, tmp_path_factory.mktemp("pacifica"))
    raise pytest.UsageError(
        f"no directory above {request.path} has a __main__.py: put the test into the consumer's directory"
    )
