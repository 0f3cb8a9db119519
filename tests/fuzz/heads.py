"""Requests whose end may be seen at different places, and two strict servers to compare with: h11 and nginx."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h11

from pacifica_notifications_consumer.http.server import serve
from tests.fuzz.good import Finding, Try
from tests.support.http_tools import Echo, raw, replies
from tests.support.machine.waiting import wait_until

#: The bodies that a server reads from a connection until it refuses; None for a refusal.
Reading = list[bytes | None]
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
#: Requests that h11 refuses and this server accepts, and why.
ACCEPTED = {
    rb"POST /[^ \r\n]*[\x80-\xff]": "bytes beyond ASCII in a target, which clients send unescaped, change no end",
    rb"(?s).*\r\n0*2[ \t]+;": "RFC 9110, 5.6.3: a recipient must accept white space before a chunk's extension",
}
_ODD = (b" ", b"\t", b"\xa0", b"\x85", b"\x0b", b"\x0c", b"\x1c", b"\x1f", b"\0", b"\r", b"\n", b",", b";", b"\xff")
_AFTER = b"POST /after HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nafter"
_LINES = (b"POST / HTTP/1.1",) * 40 + (
    b"POST / HTTP/1.0",
    b"POST / HTTP/1.0",
    b"POST http://h/ HTTP/1.1",
    b"POST  / HTTP/1.1",
    b"POST /\xe9 HTTP/1.1",
    b"POST / HTTP/1.1 ",
    b"POST\t/ HTTP/1.1",
    b"POST / HTTP/2.0",
    b"POST / http/1.1",
)
_HOSTS = (b"Host: h\r\n",) * 24 + (b"", b"Host:\r\n", b"Host: h\r\nHost: h\r\n", b"Host: h\r\nhost: other\r\n")
_CODINGS = (b"chunked",) * 12 + (b"Chunked", b"gzip, chunked", b"chunked, chunked", b"identity", b"xchunked", b"")
_CHUNKS = (
    b"2\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}\r\n0\r\n\r\n",
    b"02;a=b\r\n{}\r\n0\r\nTrailer: x\r\n\r\n",
    b"2 ;a\r\n{}\r\n0\r\n\r\n",
    b"2 \r\n{}\r\n0\r\n\r\n",
    b"0x2\r\n{}\r\n0\r\n\r\n",
    b"2\n{}\n0\n\n",
    b"2\r\n{}0\r\n\r\n",
    b"1\r\n{\r\n1\r\n}\r\n00\r\n\r\n",
)
_LENGTHS = (b"2",) * 12 + (b"+2", b"-2", b"0x2", b"2,2", b"2, 2", b"02", b"2 2", b"2_0", b"\xb2", b"")


def request(chance: random.Random) -> bytes:
    """A request, most often with one thing wrong, and a good one after it."""
    chunked = chance.random() < 0.6
    name, value = b"Transfer-Encoding", chance.choice(_CODINGS)
    body = chance.choice(_CHUNKS)
    if not chunked:
        name, value, body = b"Content-Length", chance.choice(_LENGTHS), b"{}"
    fields = [name + b": " + value + b"\r\n"]
    if chance.random() < 0.1:
        fields.append(chance.choice((b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n")))
    if chance.random() < 0.1:
        fields.append(chance.choice((b"X: y\r\n z\r\n", b"no colon\r\n", b": x\r\n", b"X : y\r\n", b"X: \xe9\r\n")))
    chance.shuffle(fields)
    sent = chance.choice(_LINES) + b"\r\n" + chance.choice(_HOSTS) + b"".join(fields) + b"\r\n" + body
    if chance.random() < 0.5:
        # An odd byte at a place where a parser may skip it: beside a separator.
        places = [found.start() for found in re.finditer(rb"[ :;,\r\n]|(?<=[ :;,\n])", sent)]
        place = chance.choice(places)
        sent = sent[:place] + chance.choice(_ODD) + sent[place:]
    return sent + _AFTER


def read_by_h11(sent: bytes) -> Reading:
    """The bodies that h11 reads."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(sent)
    connection.receive_data(b"")
    bodies: Reading = []
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return [*bodies, None]
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            bodies.append(body)
            body = b""
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                return bodies
            connection.start_next_cycle()
        elif not isinstance(event, h11.Request):
            return bodies


def read_by(url: str) -> Callable[[bytes], Reading]:
    """A function that returns the bodies that a server reads which echoes them."""

    def read(sent: bytes) -> Reading:
        bodies: Reading = []
        for reply in replies(raw(url, sent)):
            head, _, body = reply.partition(b"\r\n\r\n")
            bodies.append(body if head.split()[1] == b"200" else None)
        return bodies

    return read


@contextlib.contextmanager
def nginx(upstream: str) -> Iterator[str]:
    """Run nginx before a server; yields its address."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        holder.close()
        paths = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi"))
        paths += "".join(f"{name}_temp_path {folder}/{name};" for name in ("uwsgi", "scgi"))
        Path(folder, "conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors; events {{}}"
            f"http {{ access_log off; {paths} ignore_invalid_headers off; proxy_ignore_client_abort on;"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {upstream}; }} }} }}"
        )
        command = [str(NGINX), "-p", folder, "-e", f"{folder}/errors", "-c", f"{folder}/conf"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: _listens(port), "nginx listens")
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def compare(sent: bytes, ours: Reading, references: Sequence[Reading]) -> None:
    """Refuse what all references refuse; where two accept, they see the same bodies.

    Raises:
        Finding: This server accepts a request that it must refuse, or sees another body.
    """
    refused = [reading[:1] in ([], [None]) for reading in references]
    if ours[:1] in ([], [None]):
        if len(ours) > 1:
            raise Finding(f"{ours} after a refusal of {sent!r}")
        return
    if all(refused) and not any(re.match(pattern, sent) for pattern in ACCEPTED):
        raise Finding(f"{ours} for {sent!r}, which the references refuse")
    for reading, is_refused in zip(references, refused, strict=True):
        seen = list(zip(ours, reading, strict=False))
        if not is_refused and any(None not in pair and pair[0] != pair[1] for pair in seen):
            raise Finding(f"{ours} instead of {reading} for {sent!r}")


@contextlib.contextmanager
def beside_h11() -> Iterator[Try]:
    """The ends of requests: seen at the same places as by h11."""
    with serve(Echo, "127.0.0.1", 0) as server:
        read = read_by(server.url)

        def attempt(chance: random.Random) -> None:
            sent = request(chance)
            compare(sent, read(sent), [read_by_h11(sent)])

        yield attempt


@contextlib.contextmanager
def beside_nginx() -> Iterator[Try]:
    """The ends of requests: seen at the same places as by h11 and nginx."""
    with serve(Echo, "127.0.0.1", 0) as server, nginx(server.url) as url:
        read, read_by_nginx = read_by(server.url), read_by(url)

        def attempt(chance: random.Random) -> None:
            sent = request(chance)
            compare(sent, read(sent), [read_by_h11(sent), read_by_nginx(sent)])

        yield attempt
