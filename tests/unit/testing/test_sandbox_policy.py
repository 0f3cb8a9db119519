from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.machine.waiting import DEADLINE
from tests.support.sandbox_tools import CONTENT, Ear, bundle, key_value, records_of, upload


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, ear: Ear) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox"), on_event=ear, users={"alice": 10}) as running:
        yield running


def status(sandbox: Sandbox, path: str) -> requests.Response:
    return requests.get(f"{sandbox.policy_url}/status/{path}", timeout=DEADLINE)


def test_a_transaction_by_its_id(sandbox: Sandbox, ear: Ear) -> None:
    """The answer for a known transaction has its files by id and its key-values as strings."""
    upload(sandbox, ear, bundle(CONTENT, records_of(CONTENT, key_value("N", 5))))
    info = status(sandbox, "transactions/by_id/1").json()
    assert (info["_id"], info["submitter"], info["project"], info["instrument"]) == (1, 10, "1234a", 54)
    assert (info["file_ids"], list(info["files"])) == ([1, 2], ["1", "2"])
    assert (info["files"]["2"]["subdir"], info["files"]["2"]["name"]) == ("sub", "b.txt")
    assert info["key_values"] == {"N": "5"}


def test_an_unknown_transaction(sandbox: Sandbox) -> None:
    """The answer for an unknown transaction has status 200 and a 404 in the body, like the real service."""
    answer = status(sandbox, "transactions/by_id/7")
    assert (answer.status_code, answer.json()["status"]) == (200, "404 Not Found")


@pytest.mark.parametrize(
    ("path", "code"), [("transactions/by_id/abc", 400), ("users/search/nobody", 404), ("else", 404)]
)
def test_errors_are_pages(sandbox: Sandbox, path: str, code: int) -> None:
    """Errors are pages in HTML, not JSON."""
    answer = status(sandbox, path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (code, "text/html;charset=utf-8")
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_post_is_refused(sandbox: Sandbox) -> None:
    """A POST to a query is refused."""
    url = f"{sandbox.policy_url}/status/users/search/alice"
    assert requests.post(url, data=b"", timeout=DEADLINE).status_code == 405


def test_a_user_by_network_id(sandbox: Sandbox) -> None:
    """A user is found by network id, with the number that uploads have as submitter."""
    found = status(sandbox, "users/search/alice").json()
    assert [(user["network_id"], user["person_id"]) for user in found] == [("alice", 10)]


def test_without_a_list_of_users() -> None:
    """Without a list of users every user has a number, which stays the same."""
    numbers = []
    for _ in range(2):
        with Sandbox() as sandbox:
            numbers.append(status(sandbox, "users/search/dmlb2000").json()[0]["person_id"])
    assert numbers[0] == numbers[1] > 0
