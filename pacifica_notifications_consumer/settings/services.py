"""The addresses of the Pacifica services and the user of their requests, and the variables that entry-points get."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from .converters import authentication, ca_bundle, existing_file, header_text, url
from .option import CONFIG_VARIABLE, PREFIX, documented, environ_of, resolve, setting

#: Set by the runner: the name of the consumer whose entry-point runs, which marks its uploads.
CONSUMER_VARIABLE = PREFIX + "CONSUMER"


@documented
@attrs.frozen(kw_only=True)
class Services:
    """The addresses of the Pacifica services, and the user of the requests.

    ``ca_bundle`` is True for the usual authorities, False to verify nothing.

    Args:
        consumer: The name of the consumer whose entry-point runs; None outside a runner.
    """

    producer_url: str = setting(
        "the producer (Pacifica's notifications service) to subscribe to", url, default="http://127.0.0.1:8070"
    )
    cartd_url: str = setting("Pacifica's cartd, from which entry-points download", url, default="http://127.0.0.1:8081")
    proxy_url: str | None = setting(
        "Pacifica's proxy service, from which entry-points download many small files faster than from cartd; optional",
        url,
    )
    ingest_url: str = setting("Pacifica's ingest, to which entry-points upload", url, default="http://127.0.0.1:8066")
    ingest_upload_url: str | None = setting(
        "where ingest takes uploads, if that is not its address with /upload", url, part_of="ingest_url"
    )
    ingest_status_url: str | None = setting(
        "where ingest reports the progress of uploads, if that is not its address with /get_state",
        url,
        part_of="ingest_url",
    )
    policy_url: str | None = setting(
        "Pacifica's policy service: lets the consumer check the user name and look for transactions that were not "
        "announced, and upload() learn the ids of the new files; optional",
        url,
    )
    username: str | None = setting(
        "the Pacifica user of the subscription (a network id), sent as Http-Remote-User with every request",
        header_text,
        metavar="NAME",
    )
    password: str | None = setting(
        "the user's password for HTTP basic authentication", str, has_flag=False, in_file=True, secret=True
    )
    authentication: str | None = setting(
        "how requests are authenticated: none, basic (user and password), clientssl (a certificate), or gssapi "
        "(Kerberos, with the package requests-gssapi); by default basic if there is a password",
        authentication,
        metavar="KIND",
    )
    client_cert: str | None = setting("the client's certificate for clientssl, a file in PEM form", existing_file)
    client_key: str | None = setting("the private key of `client_cert`, unless the same file holds it", existing_file)
    ca_bundle: str | bool = setting(
        "a file with the certificates of the authorities that Pacifica's https servers are verified against",
        ca_bundle,
        note="yes for the usual ones, no to verify nothing",
        default=True,
        metavar="FILE|yes|no",
    )
    consumer: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Services:
        """Read the settings as an entry-point finds them.

        The sources are ``PACIFICA_…``, the variables of Pacifica's own clients, the INI file ``PACIFICA_CONFIG``, and
        ``~/.pacifica_cli/config.ini``; the first one that sets a value counts.

        Args:
            environ: The environment's variables; by default those of this process.

        Raises:
            ConfigurationError: A value is wrong.
        """
        environ = os.environ if environ is None else environ
        ini = environ.get(CONFIG_VARIABLE)
        # The file may also hold settings of the commands.
        services = resolve(cls, {}, environ, Path(ini) if ini else None, strict=False)
        return attrs.evolve(services, consumer=environ.get(CONSUMER_VARIABLE) or None)

    def environ(self) -> dict[str, str]:
        """The variables that pass these settings on to an entry-point."""
        consumer = {} if self.consumer is None else {CONSUMER_VARIABLE: self.consumer}
        return environ_of(self) | consumer
