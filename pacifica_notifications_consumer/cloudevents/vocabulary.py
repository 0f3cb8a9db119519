"""The members, tables and values of Pacifica's notifications, by which `check` finds filters that cannot match.

They are those of pacifica-metadata 0.13 and its uploaders, with the default settings of a site, as the shapes that
`filter.analysis` defines.
"""

from __future__ import annotations

from typing import Any

from ..filter.analysis import Form

_ATTRIBUTES = ("submitter", "project", "instrument")
#: The values of ``destinationTable``.
TABLES = (
    *("Files", "FileKeyValue", "TransactionKeyValue"),
    *(f"Transactions.{name}" for name in (*_ATTRIBUTES, "_id")),
)
#: What a notification does not have, or had in 2019, as in the specification's example, and what to write instead.
REPLACED = {
    "/pacifica/metadata/ingest": "Pacifica of 2019 sent it; leave it out: today's source is "
    '"http://metadata.pacifica.org/transactions?_id=…" or what the site has configured',
    "Transactions.proposal": 'Pacifica of 2019 sent it; write "Transactions.project"',
    **{name: f'write @["destinationTable"] = "Transactions.{name}" and @["value"] = …' for name in _ATTRIBUTES},
    **dict.fromkeys(("path", "folder"), 'write "subdir" for the folder of a file, and "name" for its name'),
    **dict.fromkeys(("extension", "suffix"), 'compare the end of the name, as in @["name"][substring(-4)] = ".csv"'),
}
#: metadata refuses files of other types.
_MIMETYPES = ("application", "audio", "example", "font", "image", "message", "model", "text", "video")
#: Uploaders may send these with a row of metadata.
_OF_UPLOADERS = (
    *("sourceTable", "metaID", "displayType", "displayTitle", "queryDependency", "valueField", "queryFields"),
    *("displayFormat", "directoryOrder", "query_results"),
)
_TIME = Form(r"\d{4}(-\d\d){2}T(\d\d:){2}\d\d.*", 'compare its beginning, as in [substring(0, 10)] = "2026-11-24"')
_FILE = {
    "_id": float,
    "size": float,
    "mimetype": tuple(f"{kind}/*" for kind in _MIMETYPES),
    "name": Form("[^/]+", 'compare "subdir" with the folder, and "name" with the name in it'),
    "subdir": Form("(?!/).*", "leave out the first slash"),
    **dict.fromkeys(("ctime", "mtime"), _TIME),
    **dict.fromkeys(("hashtype", "hashsum"), ()),
}


def _row(table: str) -> dict[str, Any]:
    members = {"value": None, **({"key": ()} if "KeyValue" in table else {}), **dict.fromkeys(_OF_UPLOADERS)}
    if table == "FileKeyValue":
        members["file_id"] = float
    return {"destinationTable": (table,), **(_FILE if table == "Files" else members)}


def _event(kind: str, source: str, event_id: str, data: Any) -> dict[str, Any]:
    return {
        "cloudEventsVersion": ("0.1",),
        "eventType": (f"org.pacifica.metadata.{kind}",),
        "source": (f"http://metadata.pacifica.org/{source}",),
        "eventID": (f"metadata.{event_id}",),
        "eventTime": _TIME,
        "extensions": None,
        "contentType": ("application/json",),
        "data": data,
    }


#: All but the first are sent to administrators only.
EVENTS = (
    _event("ingest", "transactions?_id=*", "ingest.*", [_row(table) for table in TABLES]),
    _event("orm", "*", "orm.*", {"obj_type": (), "obj_primary_keys": [None], "method": ()}),
    _event("doientry", "doientry", "doi.*", [{"entry": None, "was_created": None}]),
    _event("doiupdate", "doientry?doi=*", "doi.*", ()),
)
