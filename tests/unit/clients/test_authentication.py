"""Each kind of authentication works over real TLS, and missing settings are reported."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import certifi
import pytest
import requests
import trustme

from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.errors import ConfigurationError, ServiceError
from pacifica_notifications_consumer.http.server import Handler, serve
from pacifica_notifications_consumer.settings.services import Services


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return str(tmp_path / "authority.pem")


@pytest.fixture
def url(authority: trustme.CA) -> Iterator[str]:
    """A server with a certificate that requests client certificates and answers with their subjects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL

    class Telling(Handler):
        def do_GET(self) -> None:
            assert isinstance(self.connection, ssl.SSLSocket)
            subject: Any = (self.connection.getpeercert() or {}).get("subjectAltName", ())
            name = subject[0][1] if subject else "nobody"
            self.reply(200, f'[{{"network_id": "{name}"}}]'.encode())

    with serve(Telling, "127.0.0.1", 0, context) as server:
        yield server.url


def knows(url: str, username: str, **settings: Any) -> bool:
    with make_session(attrs.evolve(Services(), **settings)) as session:
        return Policy(url, session).knows_user(username)


def test_authorities(url: str, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's certificate is verified against the configured authorities, or not at all if that is configured."""
    assert knows(url, "nobody", ca_bundle=bundle)
    assert knows(url, "nobody", ca_bundle=False)
    with pytest.raises(ServiceError, match="cannot reach policy"):
        knows(url, "nobody")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    assert knows(url, "nobody")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    assert knows(url, "nobody", ca_bundle=bundle)


@pytest.mark.parametrize("apart", [True, False])
def test_client_certificate(url: str, bundle: str, authority: trustme.CA, tmp_path: Path, apart: bool) -> None:
    """With clientssl the server gets the client's certificate; the key may be in the same file or in another."""
    issued = authority.issue_cert("alice.example.org")
    files = {"client_cert": str(tmp_path / "cert.pem")}
    if apart:
        issued.cert_chain_pems[0].write_to_path(files["client_cert"])
        files["client_key"] = str(tmp_path / "key.pem")
        issued.private_key_pem.write_to_path(files["client_key"])
    else:
        issued.private_key_and_cert_chain_pem.write_to_path(files["client_cert"])
    assert knows(url, "alice.example.org", authentication="clientssl", ca_bundle=bundle, **files)


def test_gssapi(monkeypatch: pytest.MonkeyPatch) -> None:
    """With gssapi requests are authenticated by requests-gssapi, if it is installed."""
    monkeypatch.setitem(sys.modules, "requests_gssapi", None)
    with pytest.raises(ConfigurationError, match="requests-gssapi is not installed; install it"):
        make_session(Services(authentication="gssapi"))
    module = ModuleType("requests_gssapi")
    module.HTTPSPNEGOAuth = type("HTTPSPNEGOAuth", (requests.auth.AuthBase,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "requests_gssapi", module)
    assert type(make_session(Services(authentication="gssapi")).auth).__name__ == "HTTPSPNEGOAuth"


@pytest.mark.parametrize(
    ("settings", "lacking"),
    [
        ({"authentication": "basic", "username": "alice"}, "`password`"),
        ({"authentication": "basic", "password": "secret"}, "`username`"),
        ({"authentication": "clientssl"}, "`client_cert`"),
    ],
)
def test_missing_settings(settings: dict[str, Any], lacking: str) -> None:
    """A kind of authentication without its settings is refused before a request is sent."""
    with pytest.raises(ConfigurationError) as caught:
        make_session(attrs.evolve(Services(), **settings))
    assert lacking in str(caught.value)


def test_no_authentication() -> None:
    """With the kind none, user and password are not sent."""
    assert make_session(Services(authentication="none", username="alice", password="secret")).auth is None
