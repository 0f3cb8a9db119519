"""One download or upload by Pacifica's own client, in its environment: prints the seconds and the peak memory in bytes.

`.bed/bin/python official_contender.py download|upload DIRECTORY URL`
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from pacifica.downloader import Downloader
from pacifica.uploader import Uploader
from pacifica.uploader.bundler import Bundler
from pacifica.uploader.metadata import MetaData, MetaObj


class _File:
    """A binary file with the `len` that requests looks for, so that a Content-Length is sent."""

    def __init__(self, path):
        self._file, self.len = Path(path).open("rb"), Path(path).stat().st_size  # noqa: SIM115  (the client closes none)

    def read(self, size=-1):
        return self._file.read(size)


def download(directory, url):
    event = json.loads(Path(directory, "notification.json").read_bytes())
    Downloader(cart_api_url=url).cloudevent(Path(directory, "downloads"), event)


def upload(directory, url):
    attributes = {"submitter": 10, "project": "1234a", "instrument": 54}
    objects = [MetaObj(destinationTable=f"Transactions.{key}", value=value) for key, value in attributes.items()]
    root = Path(directory, "uploads")
    files = []
    for path in sorted(root.rglob("*")):
        if path.is_file():
            facts = path.stat()
            name = f"data/{path.relative_to(root)}"
            files.append({"name": name, "size": facts.st_size, "mtime": facts.st_mtime, "fileobj": _Lazy(path)})
    uploader = Uploader(upload_url=f"{url}/upload", status_url=f"{url}/get_state")
    with tempfile.NamedTemporaryFile(dir=directory) as bundle:
        Bundler(MetaData(objects), files).stream(bundle)
        bundle.flush()
        job_id = uploader.upload(_File(bundle.name), content_length=Path(bundle.name).stat().st_size)
    while not uploader.getstate(job_id)["complete"]:
        time.sleep(0.05)


class _Lazy:
    """A file that is opened when it is read: 20,000 open ones are too many for most systems."""

    def __init__(self, path):
        self._path, self._file = path, None

    def read(self, size=-1):
        if self._file is None:
            self._file = self._path.open("rb")
        data = self._file.read(size)
        if not data:
            self._file.close()
        return data

    def close(self):
        if self._file is not None:
            self._file.close()


def peak_memory():
    """Bytes of this program alone: what `resource` tells counts the one that it was started from, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    what, where, address = sys.argv[1:]
    started = time.perf_counter()
    {"download": download, "upload": upload}[what](where, address)
    print(time.perf_counter() - started, peak_memory())
