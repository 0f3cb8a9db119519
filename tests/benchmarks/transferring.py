"""Moving files: download() and upload() beside the plain way with requests and tarfile, which verifies nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
import uuid
from pathlib import Path

import requests

from pacifica_notifications_consumer import download, upload
from pacifica_notifications_consumer.notification import Notification
from pacifica_notifications_consumer.sandbox import Sandbox
from pacifica_notifications_consumer.services import Services
from tests.benchmarks.measure import compare, seconds

_TRANSACTION = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
_SIZE = 64 << 20
_MIB = 1 << 20


def main() -> None:
    """Measure one large file, both ways, on the sandbox."""
    with tempfile.TemporaryDirectory() as directory, Sandbox() as sandbox:
        home = Path(directory)
        services = Services.from_environment(sandbox.environ())
        (home / "out" / "uploads").mkdir(parents=True)
        (home / "out" / "uploads" / "large.bin").write_bytes(os.urandom(_SIZE))
        upload(home / "out", _TRANSACTION, services=services).get()
        body = sandbox.notification(sandbox.transactions()[-1])
        rows = Notification.parse(body).rows

        def fetch() -> float:
            shutil.rmtree(home / "in", ignore_errors=True)
            (home / "in").mkdir()
            (home / "in" / "notification.json").write_bytes(body)
            return _SIZE / _MIB / seconds(lambda: download(home / "in", services=services).get())

        def fetch_plainly() -> float:
            shutil.rmtree(home / "plain", ignore_errors=True)
            (file,) = (row for row in rows if row["destinationTable"] == "Files")

            def act() -> None:
                url = f"{sandbox.cartd_url}/{uuid.uuid4()}"
                wanted = {"id": file["_id"], "path": "large.bin"} | {key: file[key] for key in ("hashtype", "hashsum")}
                requests.post(url, json={"fileids": [wanted]}, timeout=60).raise_for_status()
                while requests.head(url, timeout=60).headers["X-Pacifica-Status"] != "ready":
                    pass
                response = requests.get(url, stream=True, timeout=60)
                with response, tarfile.open(fileobj=response.raw, mode="r|") as tar:
                    tar.extractall(home / "plain", filter="data")
                requests.delete(url, timeout=60)

            return _SIZE / _MIB / seconds(act)

        def send() -> float:
            return _SIZE / _MIB / seconds(lambda: upload(home / "out", _TRANSACTION, services=services).get())

        def send_plainly() -> float:
            def act() -> None:
                document = json.dumps([row for row in rows if row["destinationTable"] != "Transactions._id"]).encode()
                with tempfile.TemporaryFile() as bundle:
                    with tarfile.open(fileobj=bundle, mode="w") as tar:
                        tar.add(home / "out" / "uploads" / "large.bin", "data/large.bin")
                        info = tarfile.TarInfo("metadata.txt")
                        info.size = len(document)
                        tar.addfile(info, io.BytesIO(document))
                    bundle.seek(0)
                    job = requests.post(f"{sandbox.ingest_url}/upload", data=bundle, timeout=60).json()["job_id"]
                state = f"{sandbox.ingest_url}/get_state?job_id={job}"
                while not requests.get(state, timeout=60).json()["complete"]:
                    pass

            return _SIZE / _MIB / seconds(act)

        title = f"one file of {_SIZE // _MIB} MiB, to and from the sandbox (more is better)"
        compare(f"Downloading {title}", "MiB/s", {"download()": fetch, "requests and tarfile": fetch_plainly},
                "requests and tarfile")  # fmt: skip
        compare(f"Uploading {title}", "MiB/s", {"upload()": send, "a bundle in a file": send_plainly},
                "a bundle in a file")  # fmt: skip
