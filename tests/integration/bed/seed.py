"""The people, projects and instruments that the bed starts with, sent to metadata.

=============  ==================================================
users          10 alice, a member of 1234a; 11 mallory, of nothing; 12 admin, of the administrators; 13 carol, of 5678
projects       1234a, 5678
instruments    54, for both projects; 104, for 5678
=============  ==================================================

So ``Transactions.submitter`` 10, ``project`` 1234a and ``instrument`` 54 pass the policy for uploads.
"""

from __future__ import annotations

from typing import Any

import requests

_SECONDS = 60.0
_ADMINISTRATORS = 0


def seed(metadata_url: str) -> None:
    """Fill a metadata service that is new."""

    def relation(name: str) -> str:
        params: dict[str, str | int] = {"name": name, "recursion_depth": 0}
        answer = requests.get(f"{metadata_url}/relationships", params=params, timeout=_SECONDS)
        answer.raise_for_status()
        return str(answer.json()[0]["uuid"])

    for table, rows in _rows(relation("member_of"), relation("custodian"), relation("upload_required")).items():
        answer = requests.put(f"{metadata_url}/{table}", json=rows, timeout=_SECONDS)
        assert answer.ok, f"metadata refuses {table}: {answer.text}"


def _rows(member: str, custodian: str, required: str) -> dict[str, list[dict[str, Any]]]:
    return {
        "groups": [
            {"_id": _ADMINISTRATORS, "name": "admin", "display_name": "Administrators", "is_admin": True},
            {"_id": 1001, "name": "nmr", "display_name": "NMR", "is_admin": False},
        ],
        "users": [
            _user(10, "alice"),
            _user(11, "mallory"),
            _user(12, "admin"),
            _user(13, "carol"),
        ],
        "instruments": [
            {"_id": number, "name": name, "name_short": name, "display_name": name, "active": True}
            for number, name in ((54, "NMR Probe"), (104, "Microscope"))
        ],
        "projects": [
            {
                "_id": project,
                "title": f"Project {project}",
                "abstract": "Made by the test bed",
                "science_theme": "general",
                "submitted_date": "2020-01-02T03:04:05",
                "accepted_date": "2020-01-03",
                "actual_start_date": "2020-01-04",
            }
            for project in ("1234a", "5678")
        ],
        "user_group": [{"user": 12, "group": _ADMINISTRATORS}],
        "instrument_group": [{"instrument": 54, "group": 1001}],
        "project_user": [
            {"project": project, "user": user, "relationship": member}
            for project, user in (("1234a", 10), ("5678", 13))
        ],
        "project_instrument": [
            {"project": project, "instrument": instrument, "relationship": required}
            for project, instrument in (("1234a", 54), ("5678", 54), ("5678", 104))
        ],
        "instrument_user": [{"instrument": 54, "user": 12, "relationship": custodian}],
    }


def _user(number: int, name: str) -> dict[str, Any]:
    email = f"{name}@example.com"
    return {"_id": number, "first_name": name, "last_name": name, "network_id": name, "email_address": email}
