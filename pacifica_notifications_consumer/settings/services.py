"""Where the Pacifica services are and who asks them: their settings, and how entry-points get them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from .converters import authentication, ca_bundle, existing_file, header_text, size, url
from .option import CONFIG_VARIABLE, PREFIX, Option, resolve

#: Bytes that a header of a tar may have: a path of Linux has 4096 at most.
TAR_HEADER = 1 << 20
_BLOCK = 512


def _tar_header(text: str) -> int:
    if (number := size(text)) < _BLOCK:
        raise ValueError(f"it must be at least {_BLOCK}, which every header has")
    return number


PRODUCER_URL = Option(
    name="producer_url",
    help="the producer (Pacifica's notifications service) to subscribe to",
    convert=url,
    default="http://127.0.0.1:8070",
    metavar="URL",
)
CARTD_URL = Option(
    name="cartd_url",
    help="Pacifica's cartd, from which entry-points download",
    convert=url,
    default="http://127.0.0.1:8081",
    metavar="URL",
)
INGEST_URL = Option(
    name="ingest_url",
    help="Pacifica's ingest, to which entry-points upload",
    convert=url,
    default="http://127.0.0.1:8066",
    metavar="URL",
)
INGEST_UPLOAD_URL = Option(
    name="ingest_upload_url",
    help="where ingest takes uploads, if that is not its address with /upload",
    convert=url,
    metavar="URL",
    part_of="ingest_url",
)
INGEST_STATUS_URL = Option(
    name="ingest_status_url",
    help="where ingest tells how far an upload is, if that is not its address with /get_state",
    convert=url,
    metavar="URL",
    part_of="ingest_url",
)
PROXY_URL = Option(
    name="proxy_url",
    help="Pacifica's proxy service, from which entry-points download many small files faster than from cartd; optional",
    convert=url,
    metavar="URL",
)
POLICY_URL = Option(
    name="policy_url",
    help="Pacifica's policy service: lets the start command check the user name and look for transactions that nobody "
    "announced, and upload() learn the ids of the new files; optional",
    convert=url,
    metavar="URL",
)
USERNAME = Option(
    name="username",
    help="the Pacifica user who subscribes, sent as Http-Remote-User with every request",
    convert=header_text,
    metavar="NAME",
)
PASSWORD = Option(name="password", help="the user's password for HTTP basic authentication", has_flag=False)
PASSWORD_FILE = Option(
    name="password_file",
    help="a file that holds the user's password for HTTP basic authentication",
    convert=Path,
    metavar="FILE",
)

AUTHENTICATION = Option(
    name="authentication",
    help="how requests are authenticated: none, basic (user and password), clientssl (a certificate), or gssapi "
    "(Kerberos, with the package requests-gssapi); by default basic if there is a password",
    convert=authentication,
    metavar="KIND",
)
CLIENT_CERT = Option(
    name="client_cert",
    help="the client's certificate for clientssl, in PEM form",
    convert=existing_file,
    metavar="FILE",
)
CLIENT_KEY = Option(
    name="client_key",
    help="the key of the client's certificate, if it is not in the same file",
    convert=existing_file,
    metavar="FILE",
)
CA_BUNDLE = Option(
    name="ca_bundle",
    help="a file with the certificates of the authorities that Pacifica's https servers are verified against; "
    "yes for the usual ones, no to verify nothing",
    convert=ca_bundle,
    default=True,
    metavar="FILE|yes|no",
)

MAX_TAR_HEADER = Option(
    name="max_tar_header",
    help="bytes that the header of a file in cartd's tar may have, with a long name in it; what is larger is no name",
    convert=_tar_header,
    default=TAR_HEADER,
    metavar="BYTES",
)

#: What it takes to ask policy.
ASKING_OPTIONS = (
    POLICY_URL,
    USERNAME,
    PASSWORD,
    PASSWORD_FILE,
    AUTHENTICATION,
    CLIENT_CERT,
    CLIENT_KEY,
    CA_BUNDLE,
)

SERVICE_OPTIONS = (
    PRODUCER_URL,
    CARTD_URL,
    PROXY_URL,
    INGEST_URL,
    INGEST_UPLOAD_URL,
    INGEST_STATUS_URL,
    *ASKING_OPTIONS,
    MAX_TAR_HEADER,
)


def _file_name(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _bundle_name(path: str | os.PathLike[str] | bool) -> str | bool:
    return path if isinstance(path, bool) else os.fspath(path)


@attrs.frozen(kw_only=True)
class Services:
    """Where the Pacifica services are and who asks them.

    Args:
        producer_url: Address of the producer.
        cartd_url: Address of cartd.
        proxy_url: Address of Pacifica's proxy, if there is one.
        ingest_url: Address of ingest.
        ingest_upload_url: Where ingest takes uploads, if that is not ``ingest_url`` with ``/upload``.
        ingest_status_url: Where it tells how far they are, if that is not ``ingest_url`` with ``/get_state``.
        policy_url: Address of policy, if it may be asked.
        username: The Pacifica user (a network id).
        password: For HTTP basic authentication, if the site asks for it.
        authentication: ``none``, ``basic``, ``clientssl`` or ``gssapi``; None means basic if there is a password.
        client_cert: File of the client's certificate, for ``clientssl``.
        client_key: File of its key, if that is another one.
        ca_bundle: File of the authorities that servers' certificates are verified against; True for the usual ones,
            False to verify nothing.
        max_tar_header: Bytes that the header of a file in cartd's tar may have.
        consumer: Name of the consumer on whose behalf an entry-point runs, None outside a runner.
    """

    producer_url: str = PRODUCER_URL.default
    cartd_url: str = CARTD_URL.default
    proxy_url: str | None = None
    ingest_url: str = INGEST_URL.default
    ingest_upload_url: str | None = None
    ingest_status_url: str | None = None
    policy_url: str | None = None
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    authentication: str | None = None
    client_cert: str | None = attrs.field(default=None, converter=_file_name)
    client_key: str | None = attrs.field(default=None, converter=_file_name)
    ca_bundle: str | bool = attrs.field(default=True, converter=_bundle_name)
    max_tar_header: int = TAR_HEADER
    consumer: str | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any], consumer: str | None = None) -> Services:
        """Take what concerns the services out of resolved settings."""
        names = [option.name for option in SERVICE_OPTIONS if option is not PASSWORD_FILE]
        return cls(**{name: values[name] for name in names}, consumer=consumer)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Services:
        """Read the settings as an entry-point finds them.

        They are ``PACIFICA_…``, the variables of Pacifica's own clients, the INI file ``PACIFICA_CONFIG``, and
        ``~/.pacifica_cli/config.ini``, the first of them that says something.

        Raises:
            ConfigurationError: A value is wrong.
        """
        environ = os.environ if environ is None else environ
        ini = environ.get(CONFIG_VARIABLE)
        # The file may serve the commands, too, which know more options.
        values = resolve(SERVICE_OPTIONS, {}, environ, Path(ini) if ini else None, strict=False)
        return cls.from_values(values, environ.get(CONSUMER_VARIABLE) or None)

    def environ(self) -> dict[str, str]:
        """The variables that hand these settings on to an entry-point."""
        values = {
            option.variable: getattr(self, option.name) for option in SERVICE_OPTIONS if option is not PASSWORD_FILE
        }
        values[CONSUMER_VARIABLE] = self.consumer
        # True is how it is without it.
        return {name: str(value) for name, value in values.items() if value is not None and value is not True}


#: Set by the runner: names the consumer whose entry-point runs, to mark its uploads with.
CONSUMER_VARIABLE = PREFIX + "CONSUMER"
