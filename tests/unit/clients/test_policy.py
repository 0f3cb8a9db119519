"""The client of policy: queries of transactions and permissions, and errors as opposed to empty answers."""

from collections.abc import Iterator

import pytest

from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.errors import ServiceError
from pacifica_notifications_consumer.settings.services import Services
from tests.support.faults import fault_server, replying
from tests.support.policy_tools import BROKEN, Told


@pytest.fixture
def policy(told: Told) -> Iterator[Policy]:
    with make_session(Services(username="alice")) as session:
        yield Policy(told.url, session)


def test_lists(told: Told, policy: Policy) -> None:
    """Pages list the highest numbers first, whatever the order of the times."""
    for number, day in ((1, 3), (2, 1), (3, 2), (10, 4)):
        told.add(number, created=f"2026-11-0{day}")
    assert list(policy.transactions(size=3).times) == [10, 3, 2]
    assert list(policy.transactions(page=2, size=3).times) == [1]
    listing = policy.transactions(since="2026-11-02", until="2026-11-03")
    assert (list(listing.times.items()), listing.total) == ([(3, "2026-11-02")], 2)
    assert policy.transactions(since="2027").times == {}


@pytest.mark.parametrize(("since", "first"), [("2026-11-01", 1), ("2026-11-02", 1), ("2026-11-04", 10), ("2027", None)])
def test_first_since(told: Told, policy: Policy, since: str, first: int | None) -> None:
    """The lowest number of a period is found with two queries, although a higher number may be older."""
    for number, day in ((1, 3), (2, 1), (3, 2), (10, 4)):
        told.add(number, created=f"2026-11-0{day}")
    assert policy.first_since(since) == first
    assert len(told.asked) <= 2


def test_first_since_while_others_come(told: Told, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is added between the two queries does not hide the first one."""
    told.add(5, 6)
    ask = policy.transactions

    def transactions(**arguments: str) -> object:
        told.add(100 + len(told.asked)) if len(told.asked) == 1 else None
        return ask(**arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "transactions", transactions)
    assert policy.first_since("2026") == 5


def test_first_since_while_others_come_for_ever(told: Told, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that has another length each time is an error."""
    told.add(5)
    ask = policy.transactions

    def transactions(**arguments: str) -> object:
        told.add(100 + len(told.asked))
        return ask(**arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "transactions", transactions)
    with pytest.raises(ServiceError, match="another number of transactions each time"):
        policy.first_since("2026")


def test_may_see(told: Told, policy: Policy) -> None:
    """The statuses that the producer takes for a refusal are one, all others are errors."""
    told.hidden.add(2)
    for number, expected in ((1, True), (2, False)):
        assert policy.may_see("alice", b'{"data": [{"value": %d}]}' % number) is expected
    with pytest.raises(ServiceError, match="answered 404"):
        policy.may_see("bob", b"{}")
    told.down = True
    with pytest.raises(ServiceError, match="answered 500"):
        policy.may_see("alice", b"{}")


def test_failures_are_not_absences(told: Told, policy: Policy) -> None:
    """An error of metadata is not taken for a transaction that does not exist."""
    told.add(1)
    told.broken.add(1)
    assert policy.transaction(2) is None
    with pytest.raises(ServiceError, match="error from metadata: 500") as caught:
        policy.transaction(1)
    assert caught.value.transient


NUMBERS = [f'{{"times": {{"{number}": ""}}, "total_count": 1}}' for number in (0, -5, 1 << 63, 10**30)]


@pytest.mark.parametrize(
    "answer", [str(BROKEN).replace("'", '"'), "[]", '{"times": [], "total_count": 1}', "{}", *NUMBERS]
)
def test_listing_that_fails(answer: str) -> None:
    """An answer that is not a list is an error with the answer of metadata."""
    with (
        fault_server(replying(200, answer.encode())) as server,
        make_session(Services()) as session,
        pytest.raises(ServiceError, match="cannot list transactions: metadata answered"),
    ):
        Policy(server.url, session).transactions()


@pytest.mark.parametrize("answer", [b"5", b"null", b'{"network_id": "alice"}', b"[" * 100_000, b'"x"'])
def test_malformed_list_of_users(answer: bytes) -> None:
    """An answer that is not a list of users, or not JSON, is an error that says so."""
    expected = pytest.raises(ServiceError, match=r"answered (without a list of users|something that is not JSON)")
    with fault_server(replying(200, answer)) as server, make_session(Services()) as session, expected:
        Policy(server.url, session).knows_user("alice")


def test_refusal_with_an_odd_reason() -> None:
    """A refusal whose reason cannot be parsed is still a refusal."""
    expected = pytest.raises(ServiceError, match="answered 400")
    with fault_server(replying(400, b"[" * 100_000)) as server, make_session(Services()) as session, expected:
        Policy(server.url, session).knows_user("alice")
