#!/usr/bin/env python3
"""Copy the plain-text files of a transaction, in upper case, into a new transaction."""

import json
import os
import shutil
import sys

from jsonpath2 import Path
from promise import Promise

from pacifica_notifications_consumer import download, upload


def find(jsonpath, event):
    """List the values that a JSONPath finds in a notification."""
    return [match.current_value for match in Path.parse_str(jsonpath).match(event)]


if __name__ == "__main__":
    # The directory of the incoming transaction, and that of the outgoing one.
    source, destination = sys.argv[1:]

    def download_did_fulfill(event):
        """Write the new files, then upload them."""
        for file in find('$["data"][*][?(@["destinationTable"] = "Files" and @["mimetype"] = "text/plain")]', event):
            with open(os.path.join(source, "downloads", file["subdir"], file["name"]), encoding="utf-8") as original:
                text = original.read()
            with open(os.path.join(destination, "uploads", file["subdir"], file["name"]), "w", encoding="utf-8") as new:
                new.write(text.upper())

        def value(table):
            return find(f'$["data"][*][?(@["destinationTable"] = "{table}")]["value"]', event)[0]

        return upload(
            destination,
            {
                table: value(table)
                for table in ("Transactions.instrument", "Transactions.project", "Transactions.submitter")
            },
            {"Transactions._id": value("Transactions._id")},
        ).then(upload_did_fulfill)

    def upload_did_fulfill(event):
        """Remove both directories."""
        print("uploaded", json.dumps(event["eventID"]))
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(destination, ignore_errors=True)
        return Promise.resolve(True)

    download(source).then(download_did_fulfill)
