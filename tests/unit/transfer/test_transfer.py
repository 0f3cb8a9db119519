"""download() and upload() on the sandbox: uploaded files are downloaded unchanged, and faults are reported."""

import contextlib
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from pacifica_notifications_consumer import download, upload
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY, Notification
from pacifica_notifications_consumer.errors import DownloadError, UploadError
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_consumer.testing.sandbox.store import Store
from pacifica_notifications_consumer.transfer.promises import Promise
from pacifica_notifications_consumer.transfer.upload_tar import UploadTar

TRANSACTION = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
#: With the name that older versions of Pacifica have for a project.
PROPOSAL = {"Transactions.submitter": 10, "Transactions.proposal": "1234a", "Transactions.instrument": 54}
FILES = {
    "a.txt": b"alpha",
    "empty": b"",
    "größe/ψ.bin": bytes(range(256)) * 10_000,
    "data/inner.txt": b"a folder of the name that ingest cuts off",
    "data/data/deeper.txt": b"twice",
    "deep/" * 30 + "n" * 150 + ".txt": b"a path of more than the 100 characters of old tars",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before retries, which are recorded instead of waited for."""
    pauses: list[float] = []
    monkeypatch.setattr("pacifica_notifications_consumer.clients.retry.time.sleep", pauses.append)
    return pauses


@pytest.fixture
def services(sandbox: Sandbox) -> Services:
    return Services.from_environment(sandbox.environ() | {"PACIFICA_USERNAME": "alice"})


@pytest.fixture
def outgoing(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "outgoing" / "uploads" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return tmp_path / "outgoing"


def incoming(tmp_path: Path, body: bytes) -> Path:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "notification.json").write_bytes(body)
    return tmp_path / "incoming"


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def failure(promise: Any) -> Exception:
    with pytest.raises(Exception) as caught:
        promise.get()
    return caught.value


def test_there_and_back(sandbox: Sandbox, services: Services, outgoing: Path, tmp_path: Path) -> None:
    """Names, contents and times of files survive upload and download; the promises return the notifications."""
    event = upload(outgoing, TRANSACTION, {"Tag": "é", "Number": 5}, services=services).get()
    announced = json.loads(sandbox.notification(sandbox.transactions()[-1]))
    assert event["data"] == announced["data"]
    assert {key: event[key] for key in ("source", "eventID", "eventType")} == {
        key: announced[key] for key in ("source", "eventID", "eventType")
    }
    assert json.loads((outgoing / "notification.json").read_bytes()) == event
    source = incoming(tmp_path, json.dumps(announced).encode())
    assert download(source, services=services).get() == announced
    assert contents(source / "downloads") == FILES
    assert {path.stat().st_mtime for path in (source / "downloads").rglob("*") if path.is_file()} == {1_600_000_000}


@pytest.mark.parametrize("hashtype", ["SHA1", "SHA-1", "Sha1"])
def test_other_spellings_in_a_notification(
    sandbox: Sandbox, services: Services, outgoing: Path, tmp_path: Path, hashtype: str
) -> None:
    """Other uploaders write folders as ``a/b/`` and hashes as ``SHA1``: such files are downloaded and verified."""
    upload(outgoing, TRANSACTION, services=services).get()
    event = json.loads(sandbox.notification(sandbox.transactions()[-1]))
    for row in event["data"]:
        if row["destinationTable"] == "Files":
            row |= {"hashtype": hashtype, "subdir": row["subdir"].replace("/", "//") + "/" if row["subdir"] else "./"}
    source = incoming(tmp_path, json.dumps(event).encode())
    assert download(source, services=services).get() == event
    assert contents(source / "downloads") == FILES
    # The intact files are recognized: no service is asked.
    download(source, services=Services(cartd_url="http://127.0.0.1:9")).get()


def test_download_again_replaces(sandbox: Sandbox, services: Services, outgoing: Path, tmp_path: Path) -> None:
    """A second download restores a file that was changed since the first."""
    upload(outgoing, TRANSACTION, services=services).get()
    source = incoming(tmp_path, sandbox.notification(sandbox.transactions()[-1]))
    for _ in range(2):
        download(source, services=services).get()
        assert contents(source / "downloads") == FILES
        (source / "downloads" / "a.txt").write_text("spoilt")


def test_downloads_into_one_directory(sandbox: Sandbox, services: Services, outgoing: Path, tmp_path: Path) -> None:
    """Downloads of one notification that are started together share its files."""
    upload(outgoing, TRANSACTION, services=services).get()
    source = incoming(tmp_path, sandbox.notification(sandbox.transactions()[-1]))
    Promise.all([download(source, services=services) for _ in range(5)]).get()
    assert contents(source / "downloads") == FILES


def test_download_again_fetches_what_is_missing(
    sandbox: Sandbox, services: Services, outgoing: Path, tmp_path: Path
) -> None:
    """Intact files are not fetched again, and remains of an interrupted download are removed."""
    upload(outgoing, TRANSACTION, services=services).get()
    source = incoming(tmp_path, sandbox.notification(sandbox.transactions()[-1]))
    download(source, services=services).get()
    downloads = source / "downloads"
    with contextlib.ExitStack() as stack:
        # As long as the old files are open, no new file can have the number of one.
        before = {path: stack.enter_context(path.open()) for path in downloads.rglob("*") if path.is_file()}
        (downloads / "a.txt").unlink()
        (downloads / "empty").unlink()
        (downloads / "empty").symlink_to("/dev/null")
        (downloads / ".pacifica-incoming-left").mkdir()
        download(source, services=services).get()
        kept = {path for path, file in before.items() if os.path.samestat(os.fstat(file.fileno()), path.stat())}
    assert kept == set(before) - {downloads / "a.txt", downloads / "empty"}
    assert contents(downloads) == FILES
    assert not (downloads / "empty").is_symlink()
    assert not list(downloads.glob(".*"))
    # All files are present, so no service is asked.
    download(source, services=Services(cartd_url="http://127.0.0.1:9")).get()


def test_several_at_once(sandbox: Sandbox, services: Services, tmp_path: Path) -> None:
    """Several uploads run at the same time, and so do several downloads."""
    out = [tmp_path / f"out{number}" for number in range(6)]
    for number, directory in enumerate(out):
        (directory / "uploads").mkdir(parents=True)
        (directory / "uploads" / "a.txt").write_text(str(number))
    events = Promise.all([upload(directory, TRANSACTION, services=services) for directory in out]).get()
    sources = [tmp_path / f"in{number}" for number in range(6)]
    for source, event in zip(sources, events, strict=True):
        source.mkdir()
        (source / "notification.json").write_text(json.dumps(event))
    assert Promise.all([download(source, services=services) for source in sources]).get() == events
    assert [(source / "downloads" / "a.txt").read_text() for source in sources] == [str(each) for each in range(6)]


def test_repeated_upload_waits_for_the_first(sandbox: Sandbox, services: Services, outgoing: Path) -> None:
    """Uploading again makes no new transaction, even if the contents have changed; another key-value makes one."""
    first = upload(outgoing, TRANSACTION, {"Tag": "1"}, services=services).get()
    (outgoing / "uploads" / "a.txt").write_text("made anew")
    again = upload(outgoing, TRANSACTION, {"Tag": "1"}, services=services).get()
    assert (again["eventID"], again["data"]) == (first["eventID"], first["data"])
    other = upload(outgoing, TRANSACTION, {"Tag": "2"}, services=services).get()
    assert other["eventID"] != first["eventID"]


def test_upload_that_failed_is_made_again(sandbox: Sandbox, services: Services, outgoing: Path) -> None:
    """An upload that ingest refused is sent again by the next call."""
    for _ in range(2):
        error = failure(upload(outgoing, PROPOSAL, services=attrs.evolve(services, policy_url=None)))
        assert "failed at 'Policy Validation'" in str(error)


def test_without_policy_files_have_no_id(services: Services, outgoing: Path) -> None:
    """Without the address of policy the files have no ids, because ingest does not report them."""
    event = upload(outgoing, TRANSACTION, services=Services(ingest_url=services.ingest_url)).get()
    assert [row.get("_id") for row in event["data"] if row["destinationTable"] == "Files"] == [None] * len(FILES)


def test_policy_that_fails_afterwards(sandbox: Sandbox, services: Services, outgoing: Path) -> None:
    """A transaction counts as made even if policy cannot be asked for the ids of its files."""
    made = len(sandbox.transactions())
    broken = Services(ingest_url=services.ingest_url, policy_url=sandbox.cartd_url)
    event = upload(outgoing, TRANSACTION, services=broken).get()
    assert event["eventID"] == f"metadata.ingest.{sandbox.transactions()[-1]}"
    assert len(sandbox.transactions()) == made + 1


def test_uploader_finds_the_transaction(
    sandbox: Sandbox, services: Services, outgoing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A completed upload finds its transaction even if the sandbox has not announced it yet."""
    publish = Store.publish

    def late(store: Store, number: int) -> None:
        threading.Event().wait(0.5)
        publish(store, number)

    monkeypatch.setattr(Store, "publish", late)
    event = upload(outgoing, TRANSACTION, services=services).get()
    assert event["eventID"] == f"metadata.ingest.{sandbox.transactions()[-1]}"


def test_transaction_without_files(sandbox: Sandbox, services: Services, tmp_path: Path) -> None:
    """An empty uploads/ makes a transaction without files, whose download needs no cart."""
    (tmp_path / "out" / "uploads" / "empty folder").mkdir(parents=True)
    upload(tmp_path / "out", TRANSACTION, services=services).get()
    source = incoming(tmp_path, sandbox.notification(sandbox.transactions()[-1]))
    download(source, services=Services(cartd_url="http://127.0.0.1:9")).get()
    assert list((source / "downloads").iterdir()) == []


def test_upload_under_a_runner_names_the_consumer(sandbox: Sandbox, services: Services, outgoing: Path) -> None:
    """The upload carries the consumer's name, by which the runner recognizes it."""
    named = Services.from_environment(services.environ() | {"PACIFICA_CONSUMER": "mine"})
    upload(outgoing, TRANSACTION, {"a": 1}, services=named).get()
    assert Notification.parse(sandbox.notification(sandbox.transactions()[-1])).consumers == {"mine"}


@pytest.mark.parametrize(
    ("transaction", "key_values", "problem"),
    [
        (TRANSACTION | {"Transactions._id": 7}, {}, "leave it out, or record the original"),
        (TRANSACTION | {"Files": 7}, {}, "'Files' is not an attribute of a transaction"),
        (TRANSACTION, {PROVENANCE_KEY: "other"}, "is reserved: it names the consumer"),
    ],
)
def test_refused_arguments(
    sandbox: Sandbox,
    services: Services,
    outgoing: Path,
    transaction: dict[str, Any],
    key_values: dict[str, Any],
    problem: str,
) -> None:
    """Harmful arguments are refused before anything is sent."""
    before = sandbox.transactions()
    error = failure(upload(outgoing, transaction, key_values, services=services))
    assert isinstance(error, UploadError)
    assert problem in str(error)
    assert sandbox.transactions() == before


def test_provenance_in_key_values(sandbox: Sandbox, services: Services, outgoing: Path) -> None:
    """The id of the old transaction is accepted as a key-value, as in the specification's example."""
    upload(outgoing, TRANSACTION, {"Transactions._id": 7}, services=services).get()
    rows = Notification.parse(sandbox.notification(sandbox.transactions()[-1])).rows
    assert {"destinationTable": "TransactionKeyValue", "key": "Transactions._id", "value": 7} in rows


def test_ingest_refuses(services: Services, outgoing: Path) -> None:
    """The error of a failed ingest names the task and the reason, and says that no transaction was made."""
    error = failure(upload(outgoing, PROPOSAL, services=attrs.evolve(services, policy_url=None)))
    assert isinstance(error, UploadError)
    assert "failed at 'Policy Validation' of job" in str(error)
    assert "Precondition Failed: Invalid values for project" in str(error)
    assert "no transaction was made; give Transactions.project" in str(error)
    assert not (outgoing / "notification.json").exists()


def test_policy_refuses(sandbox: Sandbox, services: Services, outgoing: Path) -> None:
    """What ingest would refuse at the end is refused before anything is sent, and the error says what to give."""
    error = failure(upload(outgoing, PROPOSAL, services=services))
    assert isinstance(error, UploadError)
    assert "Invalid values for project" in str(error)
    assert "give Transactions.project, as this Pacifica calls it, instead of Transactions.proposal" in str(error)
    assert not list(outgoing.glob("upload-*"))
    with Sandbox(project_field="proposal") as old:
        error = failure(upload(outgoing, TRANSACTION, services=Services.from_environment(old.environ())))
        assert "give Transactions.proposal, as this Pacifica calls it, instead of Transactions.project" in str(error)
    with Sandbox(users={"alice": 11}) as strict:
        error = failure(upload(outgoing, TRANSACTION, services=Services.from_environment(strict.environ())))
        assert "Invalid values for submitter" in str(error)
        assert "check that this submitter may upload to this project and instrument; nothing was sent" in str(error)


def test_upload_of_no_files(services: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A transaction without files is legal, and the log says that it has none."""
    (tmp_path / "uploads" / "folder").mkdir(parents=True)
    event = upload(tmp_path, TRANSACTION, services=services).get()
    assert [row["destinationTable"] for row in event["data"] if row["destinationTable"] == "Files"] == []
    assert f"the new transaction has no files: {tmp_path / 'uploads'} is empty" in caplog.text


def link(path: Path, target: str) -> None:
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda uploads: link(uploads / "out", "/etc/passwd"), "is a link that leads out of"),
        (lambda uploads: link(uploads / "data" / "around", "../data"), "is a link to one of its own parent folders"),
        (
            lambda uploads: (
                (uploads / "/".join(["d" * 99] * 3)).mkdir(parents=True)
                or (uploads / "/".join(["d" * 99] * 3) / "f").touch()
            ),
            "is too long: metadata accepts 255",
        ),
        (lambda uploads: link(uploads / "broken", "nothing"), "cannot read"),
        (lambda uploads: os.mkfifo(uploads / "pipe"), "is not a regular file"),
        (lambda uploads: Path(os.fsdecode(bytes(uploads) + b"/\xff")).touch(), "is not UTF-8"),
        (lambda uploads: uploads.rename(uploads.parent / "elsewhere"), "does not exist"),
    ],
)
def test_what_cannot_be_uploaded(
    sandbox: Sandbox, services: Services, outgoing: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    """Entries of uploads/ that cannot be sent are refused by name before anything is sent."""
    before = sandbox.transactions()
    spoil(outgoing / "uploads")
    assert problem in str(failure(upload(outgoing, TRANSACTION, services=services)))
    assert sandbox.transactions() == before


def test_linked_folder_within_is_followed(sandbox: Sandbox, services: Services, outgoing: Path) -> None:
    """The files of a linked folder are sent under both names."""
    (outgoing / "uploads" / "again").symlink_to("data/data")
    upload(outgoing, TRANSACTION, services=services).get()
    sent = sandbox.read(sandbox.transactions()[-1])
    assert sent == FILES | {"again/deeper.txt": FILES["data/data/deeper.txt"]}


def test_link_within_is_followed(sandbox: Sandbox, services: Services, outgoing: Path) -> None:
    """A link to another file of uploads/ is sent with that file's content."""
    link(outgoing / "uploads" / "again", "a.txt")
    upload(outgoing, TRANSACTION, services=services).get()
    assert sandbox.read(sandbox.transactions()[-1])["again"] == b"alpha"


@pytest.mark.parametrize("change", [b"longer than before", b"abc", b"ALPHA"])
def test_file_that_changes_while_it_is_sent(outgoing: Path, change: bytes) -> None:
    """A file that grows, shrinks or is rewritten during an upload is an error that names the file."""
    tar = UploadTar(outgoing / "uploads", [])
    (outgoing / "uploads" / "a.txt").write_bytes(change)
    with pytest.raises(UploadError, match=r"a\.txt changed during the upload"):
        list(tar)


def test_tar_has_the_length_it_announces(outgoing: Path) -> None:
    """The tar has exactly the announced length, and Python can read it, with the metadata last."""
    tar = UploadTar(outgoing / "uploads", [{"destinationTable": "Transactions.project", "value": "1"}])
    data = b"".join(map(bytes, tar))
    assert len(data) == len(tar)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
        document = json.load(archive.extractfile("metadata.txt") or io.BytesIO())
    assert (names[-1], len(names)) == ("metadata.txt", len(FILES) + 1)
    hashes = {row["hashsum"] for row in document if row["destinationTable"] == "Files"}
    assert hashes == {hashlib.sha1(content).hexdigest() for content in FILES.values()}  # noqa: S324


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "text/plain"),
        ("a.json", "application/json"),
        ("1abc.pdb", "application/octet-stream"),
        ("water.xyz", "application/octet-stream"),
        ("a.mht", "message/rfc822"),
        ("a.txt.gz", "application/gzip"),
        ("a.tar.bz2", "application/x-bzip2"),
        ("a.txt.Z", "application/octet-stream"),
        ("noname", "application/octet-stream"),
    ],
)
def test_mimetypes(name: str, expected: str, tmp_path: Path) -> None:
    """A file's type is one that metadata accepts, and does not depend on the machine's table of types."""
    (tmp_path / name).touch()
    assert [row["mimetype"] for row in UploadTar(tmp_path, []).file_rows] == [expected]


def test_disk_that_takes_no_more(services: Services, sandbox: Sandbox, outgoing: Path, tmp_path: Path) -> None:
    """A file that cannot be written fails the download with its directory and the reason."""
    upload(outgoing, TRANSACTION, services=services).get()
    source = incoming(tmp_path, sandbox.notification(sandbox.transactions()[-1]))
    (source / "downloads").mkdir()
    # A file is in the way of a folder.
    (source / "downloads" / "größe").touch()
    error = failure(download(source, services=services))
    assert isinstance(error, DownloadError)
    assert "cannot write into" in str(error)
