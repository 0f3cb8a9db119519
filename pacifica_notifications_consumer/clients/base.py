"""The base of all clients: credentials, timeouts, retries, and errors that name the service."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterator
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from ..cloudevents.trace import trace_headers
from ..errors import BrokenOff, ConfigurationError, ServiceError, explained, shown
from ..settings.converters import describe_size
from ..settings.services import Services
from .connections import ENCODINGS, MOST_AROUND, Endless, PacedAdapter, PacedResponse, TooSlow
from .retry import TRANSIENT_STATUSES, Backoff, retry_after


def make_session(services: Services) -> requests.Session:
    """Open a session that carries the credentials on every request.

    The user goes into ``Http-Remote-User``, which Pacifica's services read. The kind of authentication is
    ``services.authentication``; by default it is ``basic`` if both a user and a password are set.

    Raises:
        ConfigurationError: A setting or a package that the kind of authentication needs is missing.
    """
    session = requests.Session()
    # No service needs them, and a session of months would collect them.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    session.mount("http://", PacedAdapter())
    session.mount("https://", PacedAdapter())
    session.headers["User-Agent"] = f"pacifica-notifications-consumer/{version('pacifica-notifications-consumer')}"
    session.headers["Accept-Encoding"] = ", ".join(ENCODINGS)
    session.headers.update(trace_headers())
    if services.username is not None:
        session.headers["Http-Remote-User"] = services.username
    kind = services.authentication or ("basic" if services.username and services.password else "none")
    if kind == "basic":
        if services.username is None or services.password is None:
            raise _lacking("basic", "`username`, and `password` or `password_file`")
        session.auth = HTTPBasicAuth(services.username.encode(), services.password.encode())
    elif kind == "gssapi":
        session.auth = _gssapi()
    elif kind == "clientssl":
        if services.client_cert is None:
            raise _lacking("clientssl", "`client_cert`")
        session.cert = (services.client_cert, services.client_key) if services.client_key else services.client_cert
    session.verify = services.ca_bundle
    if services.ca_bundle is False:
        # The commands warn once that certificates are not verified; urllib3 would warn at each request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return session


def check_certificates(session: requests.Session) -> None:
    """Load the files once, because requests reports a wrong one only with the first https request, without its name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if isinstance(session.verify, str):
        where = {"capath" if Path(session.verify).is_dir() else "cafile": session.verify}
        with explained(ConfigurationError, f"{session.verify} cannot be used", "correct `ca_bundle`"):
            context.load_verify_locations(**where)
    if session.cert:
        files = (session.cert,) if isinstance(session.cert, str) else session.cert
        problem = f"{' and '.join(files)} cannot be used"
        with explained(ConfigurationError, problem, "correct `client_cert` and `client_key`"):
            context.load_cert_chain(files[0], files[-1], password=lambda: "")


def _lacking(kind: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"`authentication` is {kind}, but a setting that it needs is not set", f"set {what}")


def _gssapi() -> AuthBase:
    try:
        from requests_gssapi import HTTPSPNEGOAuth  # an extra of this package
    except ImportError:
        raise ConfigurationError(
            "`authentication` is gssapi, but the package requests-gssapi is not installed",
            "install it, and name it in the consumer's requirements.txt",
        ) from None
    auth: AuthBase = HTTPSPNEGOAuth()
    return auth


#: Reads the next bytes into a buffer and returns their number, 0 at the end.
Readinto = Callable[[memoryview], int]

#: The most bytes and seconds of an answer that is read as a whole; a transaction with 140,000 files needs as many.
_LARGEST_ANSWER, _LONGEST_ANSWER = 64 << 20, 600.0
#: The most commas and brackets in it, and so the most values: parsed, each takes up to 100 bytes of memory, also one of
#: three bytes of text. A file in a transaction has 20, in 450 bytes.
_MOST_VALUES = 4_000_000
#: The bytes that are read at once; gzip makes up to a thousand times as many of them.
_PIECE = 10 << 10

#: Seconds after which a streamed answer is looked at, although the buffer is not full.
_SOON = 1.0

#: Tries, the first included, of a request on which a long transfer depends; they take at most a minute and a half.
PATIENT_TRIES = 8


class ServiceClient:
    """A Pacifica service; each subclass has a method for each of the service's requests."""

    #: The service's name in messages.
    title: str
    #: The setting that holds the address.
    setting: str
    #: Seconds to connect, and seconds between two pieces of a response.
    timeouts = (10.0, 120.0)
    #: Tries, the first included, of a request that fails with a transient error. More than 1 only if the service's
    #: requests may be repeated.
    tries = 1

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self._session = session
        # An HTTP proxy cannot reach a service on this machine's loopback address, such as the sandbox.
        self._proxies = dict.fromkeys(("http", "https", "all"), "") if _is_loopback(url) else None
        self._has_answered = False

    def request(
        self,
        method: str,
        path: str,
        *,
        expect: Collection[int] = (HTTPStatus.OK,),
        tries: int | None = None,
        **arguments: Any,
    ) -> requests.Response:
        """Send a request; raises `ServiceError` if the service cannot be reached, or the status is not an expected one.

        The path is appended to the service's address, or is a full URL of the same service. Further arguments are those
        of `requests.Session.request`.
        """
        backoff = Backoff(self.tries if tries is None else tries)
        while True:
            try:
                with self._memory():
                    return self._try(method, path, expect, arguments)
            except ServiceError as failure:
                if not failure.transient or not backoff.pause(failure.problem, failure.retry_after):
                    raise

    def _try(self, method: str, path: str, expect: Collection[int], arguments: dict[str, Any]) -> requests.Response:
        response = None
        try:
            # A redirect would carry Http-Remote-User to another host, and turn a POST into a GET. A session's `verify`
            # is overridden by REQUESTS_CA_BUNDLE, a request's `verify` is not (psf/requests#3829).
            response = self._session.request(
                method,
                path if path.startswith("http") else self.url + path,
                timeout=self.timeouts,
                allow_redirects=False,
                proxies=self._proxies,
                verify=None if self._session.verify is True else self._session.verify,
                **(arguments | {"stream": True}),
            )
            if not arguments.get("stream") or response.status_code not in expect:
                self._read(response)
        except requests.RequestException as error:
            if exceeded := _exceeded(error):
                raise self.unusable(f"without an end: {exceeded}") from error
            raise ServiceError(
                f"cannot reach {self.title} at {self.url}: {reason(error)}",
                f"start it, or correct `{self.setting}`",
                transient=self._may_pass(error),
            ) from error
        except ValueError as error:  # of http.client or of an authenticator
            if response is None and not isinstance(arguments.get("data", b""), bytes):
                raise  # perhaps of the body, which calls code of others
            raise self.unusable("something that is not HTTP") from error
        self._has_answered = True
        if response.status_code not in expect:
            raise self.refusal(method, path, response)
        return response

    def _read(self, response: requests.Response) -> None:
        """Read a whole answer within the limits on its size, when decompressed, on its values and on its time."""
        pieces, size, values = [], 0, 0
        # Chunks have heads; the worst compression adds little.
        _source(response).allow(_LONGEST_ANSWER, 2 * _LARGEST_ANSWER + MOST_AROUND)
        encoding = response.headers.get("Content-Encoding", "").lower()
        with response:
            if encoding not in ("", "identity", *ENCODINGS):
                raise self.unusable(f"in the encoding {shown(encoding)}, which it was not asked for")
            for piece in response.iter_content(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > _LARGEST_ANSWER:
                    raise self.unusable(f"with more than {describe_size(_LARGEST_ANSWER)}")
                values += sum(map(piece.count, (b",", b"{", b"[")))
                if values > _MOST_VALUES:
                    raise self.unusable(f"with more than {_MOST_VALUES:,} values")
            response._content = b"".join(pieces)

    @contextlib.contextmanager
    def _memory(self) -> Iterator[None]:
        try:
            yield
        except MemoryError as error:
            raise self.unusable("with more than fits into the memory") from error

    def _may_pass(self, error: requests.RequestException) -> bool:
        if isinstance(error, requests.Timeout):
            return True
        broken = isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError)
        if not broken or isinstance(error, requests.exceptions.SSLError):
            return False
        # A service that never answered is most likely not running: report that at once instead of retrying.
        return self._has_answered or not isinstance(_innermost(error), ConnectionRefusedError | socket.gaierror)

    def refusal(self, method: str, path: str, response: requests.Response) -> ServiceError:
        """Make the error for a response with an unexpected status."""
        status = response.status_code
        problem = f"{self.title} at {self.url} answered {status} {shown(response.reason)} to {method} {path}"
        if message := _message(response):
            problem += f": {message}"
        return ServiceError(
            problem,
            self._advice(status),
            status=status,
            transient=status in TRANSIENT_STATUSES,
            retry_after=retry_after(response),
        )

    def _advice(self, status: int) -> str:
        if status == HTTPStatus.UNAUTHORIZED:
            return "check `username` and `password_file`"
        if status == HTTPStatus.FORBIDDEN:
            return "check `username`: this user may not do that"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return f"look into the log of {self.title}"
        return f"check that `{self.setting}` is the address of {self.title}"

    def json(self, response: requests.Response) -> Any:
        """Parse a response's body as JSON; raises `ServiceError` if it is not."""
        # requests would decode it by any codec that the service names, also by some that take hours.
        try:
            with self._memory():
                return json.loads(response.content)
        except (ValueError, RecursionError) as error:
            raise self.unusable("something that is not JSON") from error

    def unusable(self, answer: str) -> ServiceError:
        """Make the error for an answer that is not one of this service."""
        return ServiceError(f"{self.title} at {self.url} answered {answer}", self._advice(HTTPStatus.OK))


def reading(response: requests.Response, what: str) -> Readinto:
    """Make a function that reads the body of a streamed response; it raises `BrokenOff` when the connection breaks."""
    # urllib3's own `read` copies every byte twice more.
    source = _source(response)
    failure: BrokenOff | None = None

    def readinto(buffer: memoryview) -> int:
        nonlocal failure
        # Chunks of a single byte have six on the wire.
        source.allow(_LONGEST_ANSWER, 8 * len(buffer) + MOST_AROUND)
        began, size = time.monotonic(), 0
        # What has arrived is passed on with the first bytes after a second, and if the connection breaks, so that
        # complete files are kept.
        while not failure and size < len(buffer) and (not size or time.monotonic() < began + _SOON):
            try:
                received = source.read_next(buffer[size:])
            except (OSError, ValueError, http.client.HTTPException) as error:
                failure = BrokenOff(f"{what} broke off: {_exceeded(error) or reason(error)}", "try again")
                failure.__cause__ = error
                break
            if not received:
                break
            size += received
        if failure and not size:
            raise failure
        return size

    return readinto


def _source(response: requests.Response) -> PacedResponse:
    source = response.raw._fp
    assert isinstance(source, PacedResponse)  # noqa: S101  (since urllib3 1.x, but it is private)
    return source


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reason(error: BaseException) -> str:
    """Describe briefly why a request failed, by the innermost cause for which the system has a message."""
    cause = _innermost(error)
    if isinstance(error, requests.Timeout | TimeoutError) and not isinstance(cause, TooSlow):
        return "it did not answer in time"
    return (isinstance(cause, OSError) and cause.strerror) or type(error).__name__


def _exceeded(error: BaseException) -> str:
    """The limit that an answer has exceeded, one of ours or of Python's; empty if it failed for another reason."""
    for cause in _causes(error):
        if isinstance(cause, Endless):
            return str(cause.strerror)
        if type(cause) is http.client.HTTPException:  # too many header fields, trailers or interim responses
            return str(cause)
    return ""


def _innermost(error: BaseException) -> BaseException:
    """The last `OSError` with a message in an error's chain of causes; by default the error itself."""
    return [error, *(cause for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror)][-1]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and the causes of it, the innermost last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def ends_of(text: str) -> str:
    """The beginning and the end of a very long text: to look through all of it would take gigabytes."""
    return text if len(text) <= 2 * MOST_AROUND else f"{text[:MOST_AROUND]}\n{text[-MOST_AROUND:]}"


def summarize(text: str) -> str:
    """Shorten the error message of a Pacifica service to one line, as `shown`; it often contains a whole traceback."""
    text = ends_of(text)
    # The assertion keeps the time from growing with the square of the number of blanks.
    message = re.split(r"(?<![^\w)\]])[^\w)\]]*traceback", text, maxsplit=1, flags=re.IGNORECASE)[0]
    if not message.strip():
        # The traceback comes first: its last line is the exception.
        message = ([line for line in text.splitlines() if line.strip()] or ["no reason given"])[-1]
    return shown(" ".join(message.split()))


def _message(response: requests.Response) -> str:
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError, MemoryError):
        return ""
    message = document.get("message") if isinstance(document, dict) else None
    return summarize(message) if isinstance(message, str) else ""
