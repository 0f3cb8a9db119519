"""What Pacifica's own clients are configured with leads this library to the same services."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pacifica_notifications_consumer import upload
from pacifica_notifications_consumer.settings.services import Services
from tests.integration.bed import ENVIRONMENT, Bed
from tests.integration.conftest import TRANSACTION, number_of, write


def configure(home: Path, *answers: str) -> None:
    """Let the real `pacifica-cli configure` ask its questions and write its file."""
    subprocess.run(
        [ENVIRONMENT / "bin" / "pacifica-cli", "configure"],
        input="\n".join([*answers, ""]),
        text=True,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        cwd=home,
        capture_output=True,
        check=True,
    )


@pytest.fixture
def endpoints(bed: Bed) -> list[str]:
    """The answers to the questions for the endpoints, in their order."""
    return [
        f"{bed.urls['ingest']}/upload",
        f"{bed.urls['ingest']}/get_state",
        f"{bed.urls['policy']}/uploader",
        f"{bed.urls['policy']}/ingest",
        bed.urls["cartd"],
        f"{bed.urls['policy']}/status/transactions/by_id",
    ]


def test_file_of_the_official_client(bed: Bed, endpoints: list[str], tmp_path: Path) -> None:
    """The file that pacifica-cli writes is enough to upload, with the credentials that it holds."""
    configure(tmp_path, *endpoints, "", "basic", "alice", "hunter2")
    services = Services.from_environment({"HOME": str(tmp_path)})
    assert services.cartd_url == bed.urls["cartd"]
    assert services.policy_url == bed.urls["policy"]
    assert (services.authentication, services.username, services.password) == ("basic", "alice", "hunter2")
    event = upload(write(tmp_path / "out", {"a": b"x"}), TRANSACTION, services=services).get()
    assert bed.transaction(number_of(event))


def test_file_that_is_half_filled(bed: Bed, tmp_path: Path) -> None:
    """What was not answered, and stands there as an example, does not count as set."""
    configure(tmp_path, f"{bed.urls['ingest']}/upload", f"{bed.urls['ingest']}/get_state", "", "", "", "", "", "None")
    services = Services.from_environment({"HOME": str(tmp_path)})
    assert services == Services(
        ingest_upload_url=f"{bed.urls['ingest']}/upload",
        ingest_status_url=f"{bed.urls['ingest']}/get_state",
        authentication="none",
    )


def test_variables_of_the_official_clients(bed: Bed, tmp_path: Path) -> None:
    """The variables of the uploader and the downloader are enough, too."""
    ingest, cartd = urlsplit(bed.urls["ingest"]), urlsplit(bed.urls["cartd"])
    environ = {"INGEST_PORT": str(ingest.port), "CARTD_ADDR": "127.0.0.1", "CARTD_PORT": str(cartd.port)}
    services = Services.from_environment(environ)
    assert services.cartd_url == bed.urls["cartd"]
    event = upload(write(tmp_path / "out", {"a": b"x"}), TRANSACTION, services=services).get()
    assert bed.transaction(number_of(event))
