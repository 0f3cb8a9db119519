"""A consumer under test runs once, and its outcome says how that ended."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer.testing import Sandbox, TriedConsumer
from tests.support.runner_tools import body


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def tried(sandbox: Sandbox, tmp_path: Path) -> Callable[[str], TriedConsumer]:
    def tried(script: str) -> TriedConsumer:
        (tmp_path / "consumer").mkdir()
        (tmp_path / "consumer" / "__main__.py").write_text(script)
        return TriedConsumer(tmp_path / "consumer", sandbox, tmp_path)

    return tried


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("print('done')", 0, ""),
        (
            "print('done')\nopen(__import__('sys').argv[2] + '/a', 'w')",
            0,
            "1 file lies beside uploads/, none was uploaded",
        ),
        ("print('done'); raise SystemExit(75)", 75, "asks to be tried again later, with exit status 75"),
        ("print('done'); raise SystemExit(3)", 3, "exit status 3"),
    ],
)
def test_attempt(tried: Callable[[str], TriedConsumer], script: str, status: int, reason: str) -> None:
    """An attempt ends with the entry-point, also with status 75, and the outcome has the reason."""
    outcome = tried(script).attempt(body())
    assert (outcome.status, outcome.output, outcome.reason) == (status, "done\n", reason)


def test_run(tried: Callable[[str], TriedConsumer]) -> None:
    """A run that fails is an AssertionError with the reason and the output."""
    consumer = tried("print('no disk'); raise SystemExit(75)")
    with pytest.raises(AssertionError, match=r"(?s)failed \(asks to be tried again later, .* 75\)\nno disk"):
        consumer.run(body())
