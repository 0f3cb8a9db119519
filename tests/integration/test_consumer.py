"""A consumer under the start command, on the real producer, policy, metadata, cartd and ingest."""

from __future__ import annotations

from pathlib import Path

from pacifica_notifications_consumer.settings.services import Services
from tests.endtoend.conftest import TODAYS_EXAMPLE, Deployment, Operator, contents, pack, wait_until
from tests.integration.bed import Bed
from tests.integration.conftest import number_of, send


def test_documented_example(bed: Bed, services: Services, operator: Operator, tmp_path: Path) -> None:
    """The documented example, deployed with the start command, makes a new transaction of one with text files."""
    deployment = Deployment(operator, bed, pack(tmp_path / "consumer.zip", contents(TODAYS_EXAMPLE)))
    files = {"a.txt": b"alpha", "sub/dir/b.txt": "straße".encode(), "c.bin": bytes(range(256))}
    send(tmp_path / "binary", {"c.bin": b"the filter does not match this one"}, services)
    sent = send(tmp_path / "text", files, services)
    wait_until(lambda: deployment.verdicts().get("own"), "its own upload announced to it")
    job, directory = deployment.job(1)
    assert job.title == sent["eventID"]
    progress = {what: (how_far.bytes_done, how_far.files_done) for what, how_far in job.progress.items()}
    assert progress == {"download": (5 + 7 + 256, 3), "upload": (5 + 7, 2)}
    assert (deployment.verdicts(), deployment.jobs()) == ({"matched": 1, "own": 1}, {"succeeded": 1})
    made = bed.transaction(number_of(sent) + 1)
    found = {(file["subdir"], file["name"]): file["_id"] for file in made["files"].values()}
    archive = {path.name: path for path in (bed.directory / "archive").rglob("*") if path.is_file()}
    assert {place: archive[str(number)].read_bytes() for place, number in found.items()} == {
        ("", "a.txt"): b"ALPHA",
        ("sub/dir", "b.txt"): b"STRASSE",
    }
    mark = {"Transactions._id": str(number_of(sent)), "pacifica-notifications-consumer": "tested"}
    assert made["key_values"] == mark
    assert deployment.command.stop().status == 0
    assert bed.subscriptions() == []
    assert operator.leftovers() == []
    assert sorted(path.name for path in directory.iterdir()) == ["output.log"]
