"""Fetching from the real services: cartd beside the proxy, and how soon after a cart is ready its files are there."""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
import uuid
from pathlib import Path
from unittest import mock

import attrs
import requests

from pacifica_notifications_consumer import download, upload
from pacifica_notifications_consumer.settings.services import Services
from tests.benchmarks.measure import seconds
from tests.integration.bed import Bed

_TRANSACTION = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
_POLL = 0.003


def main() -> None:
    """Measure on a bed of its own."""
    with tempfile.TemporaryDirectory() as directory, Bed() as bed:
        services = Services.from_environment(bed.environ() | {"PACIFICA_USERNAME": "alice"})
        print("\nFetching from the real services, seconds (less is better)")
        for count in (10, 100, 1000):
            event = _upload(Path(directory, f"out{count}"), count, services)
            by_cart = _fetch(Path(directory, f"cart{count}"), event, services)
            with_proxy = attrs.evolve(services, proxy_url=bed.urls["proxy"])
            by_proxy = _fetch(Path(directory, f"proxy{count}"), event, with_proxy)
            print(f"  {count:>5} files: cartd {by_cart:7.2f}   proxy {by_proxy:7.2f}   {by_cart / by_proxy:5.1f} x")
        event = _upload(Path(directory, "five"), 5, services)
        late = [_lateness(Path(directory, f"five{number}"), event, services) for number in range(9)]
        print("\nFrom the moment a cart of 5 files is ready to the end of download(), ms (less is better)")
        print(f"  median {statistics.median(late):.0f}, {min(late):.0f} to {max(late):.0f}")


def _upload(directory: Path, count: int, services: Services) -> dict[str, object]:
    (directory / "uploads").mkdir(parents=True)
    for number in range(count):
        (directory / "uploads" / f"{number}.txt").write_text(f"{count} {number}\n" * 100)
    event: dict[str, object] = upload(directory, _TRANSACTION, services=services).get()
    return event


def _fetch(directory: Path, event: dict[str, object], services: Services) -> float:
    directory.mkdir()
    (directory / "notification.json").write_text(json.dumps(event))
    return seconds(lambda: download(directory, services=services).get())


def _lateness(directory: Path, event: dict[str, object], services: Services) -> float:
    """Milliseconds between the moment at which another client sees that the cart is ready, and the end."""
    uid = uuid.uuid4()
    ready: list[float] = []

    def watch() -> None:
        with requests.Session() as session:
            while not ready:
                answer = session.head(f"{services.cartd_url}/{uid}", timeout=60)
                if answer.headers.get("X-Pacifica-Status") == "ready":
                    ready.append(time.perf_counter())
                time.sleep(_POLL)

    watching = threading.Thread(target=watch)
    watching.start()
    with mock.patch("uuid.uuid4", return_value=uid):
        _fetch(directory, event, services)
    ended = time.perf_counter()
    # It may be over before the other client has looked.
    ready.append(ended)
    watching.join()
    return (ended - ready[0]) * 1000


if __name__ == "__main__":
    main()
