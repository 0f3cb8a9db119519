"""The specification's example, byte for byte, on a Pacifica of the time when a project was called a proposal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer.sandbox import Sandbox
from tests.endtoend.conftest import DATA, START, TOOL, Deployment, Operator, contents, pack, send, wait_until

EXAMPLE = DATA / "specification_example"


@pytest.fixture
def old_sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    source = "/pacifica/metadata/ingest"
    with Sandbox(tmp_path / "sandbox", project_field="proposal", ingest_source=source) as sandbox:
        yield sandbox


def fenced(title: str) -> str:
    """The block of the specification that follows the heading of a file."""
    specification = Path("../shared/consumer-expectations.md")
    if not specification.exists():
        pytest.skip("the specification is not at hand")
    found = re.search(rf"##### `{re.escape(title)}`\n.*?```\w*\n(.*?)```", specification.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", ["__main__.py", "init.sh", "jsonpath2.txt", "requirements.txt"])
def test_the_copy_is_the_specifications(name: str) -> None:
    """What is tested here is what the specification prints."""
    assert (EXAMPLE / name).read_bytes().strip() == fenced(name).encode().strip()


def test_it_works_verbatim(operator: Operator, old_sandbox: Sandbox, tmp_path: Path) -> None:
    """Its __main__.py, jsonpath2.txt and init.sh make of an upload the transaction that the specification promises."""
    given = (EXAMPLE / "requirements.txt").read_text()
    archive = pack(tmp_path / "consumer.zip", contents(EXAMPLE, requirements=given.replace("promises", "promise")))
    deployment = Deployment(operator, old_sandbox, archive)
    files = {"notes.txt": b"Alpha beta\n", "sub/deep er/more.txt": b"x = 1.5e3\n", "raw.bin": bytes(range(256))}
    before = send(old_sandbox, tmp_path / "instrument", files, project=None, proposal="1234a")
    after = old_sandbox.wait_for_transaction(after=before)
    wait_until(lambda: deployment.verdicts().get("own"), "its own upload announced to it")
    deployment.job(1)
    assert deployment.command.stop().status == 0
    assert old_sandbox.transactions() == [before, after]
    assert old_sandbox.read(after) == {"notes.txt": b"ALPHA BETA\n", "sub/deep er/more.txt": b"X = 1.5E3\n"}
    rows = json.loads(old_sandbox.notification(after))["data"]
    values = {row["destinationTable"]: row["value"] for row in rows if row["destinationTable"].startswith("Transa")}
    assert {
        "Transactions.instrument": 54,
        "Transactions.proposal": "1234a",
        "Transactions.submitter": 10,
        "Transactions._id": after,
    }.items() <= values.items()
    key_values = {row["key"]: row["value"] for row in rows if row["destinationTable"] == "TransactionKeyValue"}
    assert key_values == {"Transactions._id": before, "pacifica-notifications-consumer": "tested"}
    assert (deployment.verdicts(), deployment.jobs()) == ({"matched": 1, "own": 1}, {"succeeded": 1})
    assert old_sandbox.subscriptions() == []
    assert operator.leftovers() == []


def test_its_requirement_promises(operator: Operator, old_sandbox: Sandbox, tmp_path: Path) -> None:
    """Its requirements.txt as printed cannot be had: the error names it, quotes the installer, suggests promise."""
    archive = pack(tmp_path / "consumer.zip", contents(EXAMPLE))
    outcome = operator.run(START, archive, "--username", "alice", variables=old_sandbox.environ())
    assert outcome.status == 69
    error = outcome.error(START)
    assert error.startswith("the requirement 'promises' cannot be installed; did you mean 'promise'?")
    quoted = outcome.stderr[outcome.stderr.index(error) :].splitlines()[1:]
    assert "    ERROR: No matching distribution found for promises" in quoted
    assert old_sandbox.subscriptions() == []
    assert operator.leftovers() == []


def test_its_jsonpath_never_matches_todays_notifications(operator: Operator, tmp_path: Path) -> None:
    """The source that it asks for is one that the real producer never sends."""
    archive = pack(tmp_path / "consumer.zip", contents(EXAMPLE))
    for path in (DATA / "notifications").glob("*.json"):
        outcome = operator.run(TOOL, "run", archive, path)
        assert (outcome.status, "does not match" in outcome.stderr) == (66, True)
    assert operator.leftovers() == []
