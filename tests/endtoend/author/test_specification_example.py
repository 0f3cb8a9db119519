"""The specification's example, byte for byte, on a Pacifica of the time when a project was called a proposal."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer.testing.sandbox.sandbox import AS_OF, Sandbox
from tests.endtoend.conftest import TOOL, Deployment, Operator, contents, pack, send, wait_until
from tests.endtoend.doc_player import blocks
from tests.support.paths import DATA, ROOT

EXAMPLE = DATA / "specification_example"


@pytest.fixture
def old_sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox", **AS_OF[2019]) as sandbox:
        yield sandbox


#: Of the four files as the specification prints them.
DIGESTS = {
    "__main__.py": "bbba2a47c36a6630cdf76a591814923593af22f6fe361c544502ddb98d5d69f8",
    "init.sh": "31a8f59c4046c18d132a96877b7eee2d9bc20b2c2aa6ba424693bbf1fe5718dc",
    "jsonpath2.txt": "aaa32404697589423b381e025e090e9a7ffec5240a95d04479f7ef0595b50bdc",
    "requirements.txt": "364478a1124b3ca37579a349de04829938f4271191f3114858fc48924f59f072",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_the_copy_is_the_specifications(name: str) -> None:
    """What is tested here is, byte for byte, what the specification prints, and nobody has mended it since."""
    assert hashlib.sha256((EXAMPLE / name).read_bytes()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("name", DIGESTS)
def test_the_documented_copy_is_the_specifications(name: str) -> None:
    """The page that shows how to run the example has its files, byte for byte."""
    shown = dict(blocks(ROOT / "docs" / "how-to" / "specification-example.md"))
    assert shown[f"text capitals/{name}"] == (EXAMPLE / name).read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="the start command needs Linux")
@pytest.mark.parametrize("flags", [("--start", "cold", "--installer", "pip"), ("--start", "warm", "--installer", "uv")])
def test_it_works_verbatim(operator: Operator, old_sandbox: Sandbox, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Its four files make of an upload the transaction that the specification promises."""
    archive = pack(tmp_path / "consumer.zip", contents(EXAMPLE))
    deployment = Deployment(operator, old_sandbox, archive, *flags)
    if "warm" in flags:
        deployment.command.wait_for("entry-points start warm")
    files = {"notes.txt": b"Alpha beta\n", "sub/deep er/more.txt": b"x = 1.5e3\n", "raw.bin": bytes(range(256))}
    before = send(old_sandbox, tmp_path / "instrument", files, project=None, proposal="1234a")
    after = old_sandbox.wait_for_transaction(after=before)
    wait_until(lambda: deployment.verdicts().get("own"), "its own upload announced to it")
    deployment.job(1)
    assert "the requirement promises was read as promise: no project has that name" in deployment.command.stderr
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


def test_check_tells_what_todays_pacifica_does_not_have(operator: Operator) -> None:
    """Check names the source that never comes, and the proposal; these are warnings, since a site may be old."""
    outcome = operator.run(TOOL, "check", EXAMPLE, "--no-environment")
    assert outcome.status == 0
    filtered, table, summary = outcome.stdout.splitlines()
    assert filtered.startswith("warning: jsonpath2.txt: it can never match a notification of today's Pacifica")
    assert '@["source"] is never "/pacifica/metadata/ingest"; Pacifica of 2019 sent it' in filtered
    assert table.startswith("warning: __main__.py:67: ")
    assert 'no destinationTable "Transactions.proposal"' in table
    assert summary.endswith(": 2 warnings")


def test_its_jsonpath_never_matches_todays_notifications(operator: Operator, tmp_path: Path) -> None:
    """The source that it asks for is one that the real producer never sends."""
    archive = pack(tmp_path / "consumer.zip", contents(EXAMPLE))
    for path in (DATA / "notifications").glob("*.json"):
        outcome = operator.run(TOOL, "run", archive, path)
        assert (outcome.status, "does not match" in outcome.stderr) == (66, True)
    assert operator.leftovers() == []
