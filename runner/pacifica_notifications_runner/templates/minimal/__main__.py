"""Send the names of all files of a transaction back, as a new transaction."""

import sys
from pathlib import Path

from pacifica_notifications_consumer import download, upload

# The directory of the incoming transaction, and that of the outgoing one.
SRC, DST = map(Path, sys.argv[1:])


def work(notification):
    """Do the work: read SRC/downloads, write DST/uploads, and upload that."""
    downloads = SRC / "downloads"
    names = sorted(path.relative_to(downloads).as_posix() for path in downloads.rglob("*") if path.is_file())
    (DST / "uploads" / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    print("found", len(names), "files")

    # The new transaction gets submitter, project and instrument of the old one, but a number of its own.
    rows = notification["data"]
    attributes = {row["destinationTable"]: row["value"] for row in rows if "value" in row and "key" not in row}
    number = attributes.pop("Transactions._id")
    return upload(DST, attributes, {"Names of": number})


download(SRC).then(work)
