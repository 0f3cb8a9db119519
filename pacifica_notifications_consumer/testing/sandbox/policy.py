"""The sandbox's policy: the checks of uploads and events, and the queries of users and transactions."""

from __future__ import annotations

import html
import json
import zlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import attrs

from ...cloudevents.announcement import INGEST_EVENT
from ...http.errors import HTTPError
from .store import Store
from .wire import ServiceHandler, from_json


@attrs.frozen(kw_only=True)
class PolicyService:
    """The rules of a Pacifica in which every known user is in every project; without ``users``, all are known."""

    project_field: str = "project"
    users: Mapping[str, int] | None = None

    def number(self, user: str) -> int | None:
        """The number of a user; None if the user is unknown."""
        if self.users is not None:
            return self.users.get(user)
        # The number must be the same after a restart of the sandbox.
        return int(user) if user.isdecimal() else zlib.crc32(user.encode()) % 1_000_000 + 1

    def check_upload(self, records: list[dict[str, Any]]) -> None:
        """Check the metadata of an upload; the real policy answers 500 to errors other than `HTTPError`."""
        values = {
            field: next((r["value"] for r in records if r["destinationTable"] == f"Transactions.{field}"), None)
            for field in ("submitter", self.project_field, "instrument")
        }
        wrong = [field for field, value in values.items() if not value]
        if "submitter" not in wrong and not self._known(_number(values["submitter"], "submitter")):
            wrong.insert(0, "submitter")
        if wrong:
            reason = f"Precondition Failed: Invalid values for {', '.join(wrong)}"
            raise HTTPError(HTTPStatus.PRECONDITION_FAILED, reason)
        _number(values["instrument"], "instrument")

    def check_event(self, user: str, event: Any) -> None:
        """Check whether a user may see an event; raises errors as `check_upload` does, also for an unknown user."""
        number = self.number(user)
        if number is None:
            raise LookupError(f"no user has the network id {user!r}")
        kind = event.get("eventType", "Not Present")
        if kind != INGEST_EVENT:
            raise HTTPError(HTTPStatus.PRECONDITION_FAILED, f"Precondition Failed: Invalid eventType for {kind}")
        table = "Transactions.submitter"
        self.check_upload([r | {"value": number} if r["destinationTable"] == table else r for r in event["data"]])

    def _known(self, submitter: int) -> bool:
        return self.users is None or submitter in self.users.values()

    def search(self, term: str) -> list[dict[str, Any]]:
        """The users whose network id or number contains a term."""
        if self.users is None:
            number = self.number(term)
            return [_user(f"user{number}" if term.isdecimal() else term, number)]
        return [
            _user(name, number)
            for name, number in self.users.items()
            if term.lower() in name.lower() or term in str(number)
        ]


def _number(value: Any, what: str) -> int:
    if isinstance(value, str) and not value.isdecimal():
        raise ValueError(f"the {what} {value!r} is not a number")
    return int(value)


def _user(network_id: str, number: int | None) -> dict[str, Any]:
    name = network_id.capitalize()
    email = f"{network_id}@example.com"
    return {
        "category": "",
        "user_id": number,
        "person_id": number,
        "first_name": name,
        "last_name": "",
        "network_id": network_id,
        "email_address": email,
        "display_name": f"[User ID {number}] {name} &lt;{email}&gt;",
        "simple_display_name": name,
        "emsl_employee": False,
        "projects": {},
    }


def transaction_info(event: dict[str, Any], submitted: str, project_field: str = "project") -> dict[str, Any]:
    """Policy's answer to the query of a transaction; ``submitted`` is ISO 8601 in UTC, without zone."""
    records = event["data"]
    first = {
        field: next(r["value"] for r in records if r["destinationTable"] == f"Transactions.{field}")
        for field in ("_id", "submitter", "instrument", project_field)
    }
    # Metadata's database stores these as numbers, also if the uploader sent strings.
    first.update({field: int(first[field]) for field in ("_id", "submitter", "instrument")})
    stamps = {"created": submitted, "updated": submitted, "deleted": None}
    files = [record for record in records if record["destinationTable"] == "Files"]
    return {
        **stamps,
        **first,
        "transaction_id": first["_id"],
        **{f"{field}_id": first[field] for field in ("submitter", project_field, "instrument")},
        "file_ids": [file["_id"] for file in files],
        "submitted": submitted,
        "release_date": None,
        "release_state": "not_released",
        "release_state_display": "Not Released",
        **{f"{field}_name": str(first[field]) for field in ("submitter", project_field, "instrument")},
        "files": {
            str(file["_id"]): {
                **stamps,
                **{key: value for key, value in file.items() if key != "destinationTable"},
                "transaction": first["_id"],
                "suspense_date": None,
                "encoding": "UTF8",
                "key_values": _file_key_values(records, file["_id"]),
            }
            for file in files
        },
        "key_values": {
            str(r["key"]): str(r["value"]) for r in records if r["destinationTable"] == "TransactionKeyValue"
        },
    }


def _file_key_values(records: list[dict[str, Any]], file_id: int) -> list[dict[str, str]] | dict[str, str]:
    found = [r for r in records if r["destinationTable"] == "FileKeyValue" and r.get("file_id") == file_id]
    # The real policy answers an empty object, not an empty list, if there are none.
    return [{"key": str(record["key"]), "value": str(record["value"])} for record in found] or {}


_HTML = "text/html;charset=utf-8"


class PolicyHandler(ServiceHandler):
    """Answers ``/events/NAME``, ``/ingest``, and consumers' queries below ``/status``."""

    policy: PolicyService
    store: Store

    def error_body(self, page: dict[str, str]) -> bytes:
        """Write an error page as HTML; only the status queries of policy have error pages other than JSON."""
        if self.error_type != _HTML:
            return super().error_body(page)
        parts = {key: html.escape(value) for key, value in page.items()}
        template = "<!DOCTYPE html>\n<title>{status}</title>\n<h2>{status}</h2>\n<p>{message}</p>\n"
        return template.format_map(parts).encode("utf-8", "replace")

    def route(self) -> None:
        """Answer a request."""
        self.error_type = _HTML if self.segments[:1] == ["status"] else ServiceHandler.error_type
        match self.command, self.segments:
            case (("GET" | "HEAD"), ["status", "transactions" | "transaction", "by_id", number]):
                self._transaction(number)
            case (("GET" | "HEAD"), ["status", "transactions" | "transaction", "search", "list"]):
                self.reply_json(HTTPStatus.OK, self._search())
            case (("GET" | "HEAD"), ["status", "users" | "user", "search", term]):
                found = self.policy.search(term)
                if not found:
                    raise HTTPError(HTTPStatus.NOT_FOUND, "Nothing matches the given URI")
                self.reply_json(HTTPStatus.OK, found)
            case "POST", ["events", user]:
                self.policy.check_event(user, from_json(self.document()))
                self.reply_json(HTTPStatus.OK, {"status": "success"})
            case "POST", ["ingest"]:
                self.policy.check_upload(from_json(self.document()))
                self.reply_json(HTTPStatus.OK, {"status": "success"})
            case "GET" | "HEAD", _:
                raise HTTPError(HTTPStatus.NOT_FOUND, "Nothing matches the given URI")
            case _:
                raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "Specified method is invalid for this resource")

    def _search(self) -> dict[str, Any]:
        """A page of the transactions of a period, the highest numbers first; other parameters are not supported."""
        start, end = self.query.get("start", ""), self.query.get("end", "9999")
        times = {number: time for number, time in self.store.times().items() if start <= time <= end}
        size, page = int(self.query.get("item_count", 100)), int(self.query.get("page", -1))
        numbers = sorted(times, reverse=True)
        if page > 0:
            numbers = numbers[size * (page - 1) : size * page]
        return {
            "transactions": {str(number): {} for number in numbers},
            "times": {str(number): times[number] for number in numbers},
            "total_count": len(times),
            "items_per_page": size,
            "page": page,
        }

    def _transaction(self, number: str) -> None:
        if not (number.isascii() and number.isdigit()):
            raise HTTPError(HTTPStatus.BAD_REQUEST, "Provide an appropriate transaction_id value")
        event = self.store.event(int(number))
        if event is None:
            # The real policy passes on metadata's error page with status 200.
            document: dict[str, Any] = {
                "status": "404 Not Found",
                "message": f"No Transaction with an ID of {number} was found",
                "traceback": "",
                "version": "unknown",
            }
        else:
            document = transaction_info(json.loads(event), self.store.time(int(number)), self.policy.project_field)
        self.reply_json(HTTPStatus.OK, document)
