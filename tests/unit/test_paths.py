"""Wherever the public interface takes a path, it takes a `str` as well as a `Path`."""

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import Filter, JobRunner, Sandbox, Services, VenvBuilder, download, upload
from pacifica_notifications_consumer.archive import (
    Match,
    check_notification,
    check_parts,
    digest,
    open_archive,
    open_consumer,
    pack,
)
from pacifica_notifications_consumer.engines.celery import Broker, RemoteWorker
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.environment import Venv, VenvCache
from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.jobs import JobState
from pacifica_notifications_consumer.queue import JobBook
from pacifica_notifications_consumer.testing import TriedConsumer, sandbox_environ
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import DATA
from tests.support.runner_tools import body
from tests.unit.test_package import FOLDERS

TRANSACTION = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
#: What is returned and not made by composers, and a mapping of files in which a `str` would not say which it is.
RETURNED = {"Attempt", "Consumer", "JobDirectory", "Match"}
MAPPINGS = {("send_files", "contents")}


def public_callables() -> Iterator[tuple[str, Callable[..., object]]]:
    """The public functions and classes that composers call."""
    for folder in FOLDERS:
        package = import_module(folder)
        yield from ((name, getattr(package, name)) for name in package.__all__ if name not in RETURNED)


def parameters(value: Callable[..., object]) -> Iterator[tuple[str, str]]:
    """The parameters of a function or a class, with their annotations as they are written."""
    try:
        signature = inspect.signature(value)
    except ValueError:  # an exception's
        return
    for parameter in signature.parameters.values():
        yield parameter.name, str(parameter.annotation)


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    """A consumer that copies its files, in a directory."""
    directory = tmp_path / "consumer"
    directory.mkdir()
    (directory / "__main__.py").write_text("import sys\nprint(sys.argv[1:])\n")
    return directory


def test_no_signature_insists_on_a_path() -> None:
    """No public function or class has a parameter that takes a `Path` and no `str`."""
    wrong = {
        (name, parameter)
        for name, value in public_callables()
        for parameter, annotation in parameters(value)
        if "Path" in annotation and "os.PathLike[str]" not in annotation
    }
    # Its converter takes whatever a Path can be made of.
    assert wrong - MAPPINGS - {("Venv", "path")} == set()


def test_archives(consumer: Path, tmp_path: Path) -> None:
    """A consumer is packed, opened, checked and named by `str` as by `Path`."""
    archive = str(tmp_path / "consumer.zip")
    assert pack(str(consumer), archive).files == ("__main__.py",)
    with open_archive(archive) as opened:
        assert digest(str(opened.directory)) == digest(opened.directory) == digest(consumer)
    with open_consumer(archive) as opened, open_consumer(str(consumer)) as other:
        assert digest(opened.directory) == digest(other.directory)
    assert list(check_parts(str(consumer))) == []


def test_notification() -> None:
    """A notification to check a filter against is named by a `str`."""
    path = DATA / "notifications" / "ingest-nested-files.json"
    found = check_notification(Filter('$["data"]'), str(path))
    assert isinstance(found, Match)
    assert (found.path, found.matches) == (path, True)


def test_jobs(consumer: Path, tmp_path: Path) -> None:
    """A runner and the book of its jobs find the entry-point and the state directory by `str`."""
    state = str(tmp_path / "state")
    with JobRunner(str(consumer / "__main__.py"), state, name="mine", services=Services(), warm=False) as runner:
        assert runner.wait(runner.accept(body()), DEADLINE).state is JobState.SUCCEEDED
    with JobBook(state) as book:
        assert book.name == "mine"


@pytest.mark.parametrize("argument", ["requirements", "init_script"])
def test_files_of_an_environment(tmp_path: Path, argument: str) -> None:
    """A file of an environment that is not there is missed under its `str`, too."""
    path = str(tmp_path / "nothing")
    arguments: dict[str, Any] = {argument: path}
    with pytest.raises(
        ConfigurationError, match=f"`{argument}` cannot be {path}; it must be the path of an existing file"
    ):
        VenvBuilder(**arguments, directory=str(tmp_path), cache=str(tmp_path / "cache")).__enter__()


def test_environments(tmp_path: Path) -> None:
    """An environment and a cache of them are named by `str`."""
    assert Venv(str(tmp_path)) == Venv(tmp_path)
    assert VenvCache(str(tmp_path / "cache")).kept() == []


def test_sandbox_and_transfer(consumer: Path, tmp_path: Path) -> None:
    """A sandbox, a transfer and a consumer that is tried have their directories as `str`."""
    event_path = tmp_path / "event"
    (event_path / "uploads").mkdir(parents=True)
    (event_path / "uploads" / "notes.txt").write_text("rainy")
    with Sandbox(str(tmp_path / "sandbox")) as sandbox:
        with sandbox_environ(str(tmp_path / "sandbox")) as environ:
            assert environ == sandbox.environ()
        services = Services.from_environment(environ)
        upload(str(event_path), TRANSACTION, services=services).get()
        notification = download(str(event_path), services=services).get()
        assert (event_path / "downloads" / "notes.txt").read_text() == "rainy"
        tried = TriedConsumer(str(consumer), sandbox, str(tmp_path))
        assert tried.run(notification).status == 0


def test_worker(tmp_path: Path) -> None:
    """A worker of another machine has its state directory as a `str`."""
    engine = LocalEngine(entry_point=tmp_path, venv=Venv(tmp_path), services=Services(), warm=False)
    worker = RemoteWorker(Broker(url="redis://localhost", queue="mine"), engine, "digest", str(tmp_path / "state"))
    assert worker.state_dir == tmp_path.resolve() / "state"
