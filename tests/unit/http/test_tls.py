"""The server over TLS: idle clients delay no others, and unusable certificates are explained."""

import contextlib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
import trustme

from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.http.server import Handler, Server, serve
from pacifica_notifications_runner.process.tls import server_context
from tests.support.http_tools import PATIENT, connect, raw, rest_of
from tests.support.machine.waiting import DEADLINE


class Echo(Handler):
    """Answers with the request's body."""

    def do_POST(self) -> None:
        self.reply(200, self.read_body())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the files of an authority and of a certificate."""
    home = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(home / "authority.pem"))
    issued, other = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(home / "both.pem"))
    issued.cert_chain_pems[0].write_to_path(str(home / "cert.pem"))
    issued.private_key_pem.write_to_path(str(home / "key.pem"))
    other.private_key_pem.write_to_path(str(home / "other.pem"))
    (home / "text").write_text("no PEM")
    return home


@pytest.fixture
def server(files: Path) -> Iterator[Server]:
    context = server_context(files / "cert.pem", files / "key.pem")
    with serve(Echo, "127.0.0.1", 0, context, limits=PATIENT) as server:
        yield server


@pytest.mark.parametrize("names", [("both.pem", None), ("cert.pem", "key.pem")])
def test_large_and_small_bodies(files: Path, names: tuple[str, str | None]) -> None:
    """Bodies of any size arrive whole, over the same connection."""
    cert, key = names
    context = server_context(files / cert, files / key if key else None)
    with serve(Echo, "127.0.0.1", 0, context) as server, requests.Session() as session:
        assert server.url.startswith("https://")
        for size in (0, 2, 100_000, 5_000_000):
            body = b"x" * size
            assert (
                session.post(server.url, data=body, verify=str(files / "authority.pem"), timeout=DEADLINE).content
                == body
            )


def test_silent_and_slow_clients(server: Server, files: Path) -> None:
    """Clients that do not complete the handshake, or send plain HTTP, do not delay other clients."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server.url)) for _ in range(300)]
        for client in clients[::2]:
            client.sendall(b"\x16\x03\x01")
        answer = requests.post(server.url, data=b"{}", verify=str(files / "authority.pem"), timeout=DEADLINE)
        assert answer.content == b"{}"
        with contextlib.suppress(OSError):
            assert b"HTTP" not in raw(server.url, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")


def test_request_in_pieces(server: Server, files: Path) -> None:
    """A request over TLS that arrives in pieces, with long pauses, is answered like any other."""
    context = ssl.create_default_context(cafile=files / "authority.pem")
    with context.wrap_socket(connect(server.url), server_hostname="127.0.0.1") as client:
        for piece in (
            b"POST / HTT",
            b"P/1.1\r\nHost: h\r\nConnection: close\r\n",
            b"Content-Length: 2\r\n\r\n",
            b"{",
            b"}",
        ):
            time.sleep(0.3)
            client.sendall(piece)
        assert rest_of(client).endswith(b"\r\n\r\n{}")


def test_old_versions_are_refused(server: Server) -> None:
    """Versions of TLS before 1.2 are refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError), context.wrap_socket(connect(server.url)):
        pass


@pytest.mark.parametrize(
    ("cert", "key", "problem"),
    [
        ("missing", None, r"cannot read .*missing: No such file or directory; correct `tls_cert`"),
        ("cert.pem", "missing", r"cannot read .*missing: No such file or directory; correct `tls_key`"),
        ("cert.pem", "other.pem", r"cannot be used .*: the key belongs to another certificate; set"),
        ("cert.pem", None, r"cannot be used with the key in it: the certificate or the key is not in PEM form; set"),
        ("text", None, r"cannot be used .*: the certificate or the key is not in PEM form; set"),
        (None, "key.pem", r"`tls_key` is set without a certificate; set `tls_cert`, too"),
    ],
)
def test_unusable_certificates(files: Path, cert: str | None, key: str | None, problem: str) -> None:
    """The error for an unusable certificate or key names the problem and the setting."""
    with pytest.raises(ConfigurationError, match=problem):
        server_context(cert and files / cert, key and files / key)  # type: ignore[arg-type]


def test_encrypted_key(files: Path, tmp_path: Path) -> None:
    """A key with a password is refused, instead of waiting for the password at a terminal."""
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key((files / "key.pem").read_bytes(), None)
    locked = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.pem").write_bytes(locked)
    with pytest.raises(ConfigurationError, match="the key is encrypted"):
        server_context(files / "cert.pem", tmp_path / "locked.pem")


def test_no_certificate() -> None:
    """Without a certificate the server uses plain HTTP."""
    assert server_context(None, None) is None


#: Serves with a low limit of open files, and says at the end how often it has looked for something to do.
SCARCE = """
import resource, selectors, sys
from pacifica_notifications_consumer.http.server import Handler, serve

class Hello(Handler):
    def do_GET(self):
        self.reply(200, b"hello")

class Counting(selectors.DefaultSelector):
    count = 0
    def select(self, timeout=None):
        Counting.count += 1
        return super().select(timeout)

selectors.DefaultSelector = Counting
with serve(Hello, "127.0.0.1", 0) as server:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    print(server.server_port, flush=True)
    sys.stdin.read()
    print(Counting.count)
"""


def test_too_many_open_files() -> None:
    """At the limit of open files, idle connections are closed, and the server neither spins nor ends."""
    with (
        subprocess.Popen([sys.executable, "-c", SCARCE], stdin=-1, stdout=-1, text=True) as process,
        ExitStack() as stack,
    ):
        assert process.stdin
        assert process.stdout
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        for _ in range(75):
            stack.enter_context(connect(url))
        assert requests.get(url, timeout=DEADLINE).content == b"hello"
        time.sleep(1.0)
        process.stdin.close()
        # A server that spins looks some hundred times in each millisecond that it gets of a processor.
        assert int(process.stdout.readline()) < 1000
