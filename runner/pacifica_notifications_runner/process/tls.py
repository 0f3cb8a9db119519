"""The certificate of the endpoint."""

from __future__ import annotations

import ssl
from pathlib import Path

from pacifica_notifications_consumer.errors import ConfigurationError, explained


def server_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The TLS context of a certificate with its chain, and of its key if that is in another file; None without one."""
    if cert is None:
        if key is not None:
            raise ConfigurationError("`tls_key` is set without a certificate", "set `tls_cert`, too")
        return None
    for path, setting in ((cert, "tls_cert"), (key, "tls_key")):
        if path is not None:
            with explained(ConfigurationError, f"cannot read {path}", f"correct `{setting}`"):
                path.read_bytes()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without this function, OpenSSL would ask the terminal for the password of an encrypted key.
        context.load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"the certificate {cert} cannot be used with the key {key or 'in it'}: {_reason(error)}",
            "set `tls_cert` to a certificate and `tls_key` to its unencrypted private key, both in PEM",
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "the key belongs to another certificate"
    # OpenSSL does not say which of the two it could not read.
    return "the certificate or the key is not in PEM form" if "PEM" in str(error) else str(error)
