"""The certificate of the endpoint."""

from __future__ import annotations

import ssl
from pathlib import Path

from pacifica_notifications_consumer.errors import ConfigurationError


def server_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The TLS context of a certificate (with its chain) and, if it is in another file, its key; None without one.

    Raises:
        ConfigurationError: A file cannot be read, is not PEM, or is encrypted, or the key is another certificate's.
    """
    if cert is None:
        if key is not None:
            raise ConfigurationError("there is a key of TLS without a certificate", "set `tls_cert`")
        return None
    for path, setting in ((cert, "tls_cert"), (key, "tls_key")):
        if path is not None:
            _check_readable(path, setting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key must not have a server ask its terminal for the password.
        context.load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"the certificate {cert} cannot be used with the key {key or 'in it'}: {_reason(error)}",
            "set `tls_cert` to a certificate and `tls_key` to its unencrypted private key, both in PEM",
        ) from error
    return context


def _check_readable(path: Path, setting: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", f"correct `{setting}`") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "the key belongs to another certificate"
    # OpenSSL says no more than in which of its parts it failed.
    return "one of the two is not there in PEM" if "PEM" in str(error) else str(error)
