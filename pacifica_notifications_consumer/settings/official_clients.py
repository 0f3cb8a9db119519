"""The settings of Pacifica's own clients, under the names of this package's settings.

The variables are those of pacifica-uploader 0.3.1, pacifica-downloader 0.4.1 and pacifica-cli 0.5.2;
``~/.pacifica_cli/config.ini`` is written by ``pacifica-cli configure``.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ConfigurationError

#: The values and their sources, by the names of this package's settings.
Found = dict[str, tuple[str, str]]

#: The paths below policy's address in the clients' settings.
_POLICY_PATHS = ("/status/transactions/by_id", "/uploader", "/ingest")
#: The default ports of services of whose addresses only a part is set.
_PORTS = {"CARTD": "8081", "INGEST": "8066", "POLICY": "8181"}
_PLAIN_VARIABLES = {
    "CARTD_CART_API_URL": "cartd_url",
    "DOWNLOAD_URL": "cartd_url",
    "INGEST_UPLOAD_URL": "ingest_upload_url",
    "UPLOAD_URL": "ingest_upload_url",
    "INGEST_STATUS_URL": "ingest_status_url",
    "UPLOAD_STATUS_URL": "ingest_status_url",
    "AUTHENTICATION_TYPE": "authentication",
    "AUTHENTICATION_USERNAME": "username",
    "AUTHENTICATION_PASSWORD": "password",
    "AUTHENTICATION_CERT": "client_cert",
    "AUTHENTICATION_KEY": "client_key",
}
_POLICY_VARIABLES = ("DOWNLOAD_POLICY_URL", "POLICY_INGEST_URL", "POLICY_UPLOADER_URL")
_PLAIN_KEYS = {
    ("endpoints", "download_url"): "cartd_url",
    ("endpoints", "upload_url"): "ingest_upload_url",
    ("endpoints", "upload_status_url"): "ingest_status_url",
    ("endpoints", "ca_bundle"): "ca_bundle",
    ("authentication", "type"): "authentication",
    ("authentication", "username"): "username",
    ("authentication", "password"): "password",
    ("authentication", "cert"): "client_cert",
    ("authentication", "key"): "client_key",
}
_POLICY_KEYS = ("download_policy_url", "upload_validation_url", "upload_policy_url")


def from_variables(environ: Mapping[str, str]) -> Found:
    """Read the environment variables of the official clients."""
    found: Found = {}
    for variable, name in _PLAIN_VARIABLES.items():
        if environ.get(variable):
            found.setdefault(name, (environ[variable], variable))
    for variable in _POLICY_VARIABLES:
        for base in _policy_base(environ.get(variable, "")):
            found.setdefault("policy_url", (base, variable))
    for service, name, path in (
        ("CARTD", "cartd_url", ""),
        ("INGEST", "ingest_upload_url", environ.get("INGEST_UPLOAD_PATH", "/upload")),
        ("INGEST", "ingest_status_url", environ.get("INGEST_STATUS_PATH", "/get_state")),
        ("POLICY", "policy_url", ""),
    ):
        defaults = {"PROTO": "http", "ADDR": "127.0.0.1", "PORT": _PORTS[service]}
        if given := [f"{service}_{part}" for part in defaults if environ.get(f"{service}_{part}")]:
            parts = {part: environ.get(f"{service}_{part}") or default for part, default in defaults.items()}
            found.setdefault(name, ("{PROTO}://{ADDR}:{PORT}".format(**parts) + path, " and ".join(given)))
    return found


def from_file(environ: Mapping[str, str]) -> Found:
    """Read ``~/.pacifica_cli/config.ini``, if it exists."""
    # A supervisor may hide home directories from its services.
    if not environ.get("HOME") or not os.access(environ["HOME"], os.X_OK):
        return {}
    path = Path(environ["HOME"], ".pacifica_cli", "config.ini")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        # The message of configparser quotes whole lines, which may contain a password.
        reason = getattr(error, "strerror", None) or "it is not a well-formed INI file"
        raise ConfigurationError(
            f"cannot read {path}: {reason}", "write it again with `pacifica-cli configure`, or remove it"
        ) from None
    found: Found = {}
    for (section, key), name in _PLAIN_KEYS.items():
        if text := _configured(parser, section, key):
            found[name] = (text, f"{key} in {path}")
    for key in _POLICY_KEYS:
        for base in _policy_base(_configured(parser, "endpoints", key)):
            found.setdefault("policy_url", (base, f"{key} in {path}"))
    return found


def _configured(parser: configparser.ConfigParser, section: str, key: str) -> str:
    """A value of the file; empty for an example address, which pacifica-cli writes for an unanswered question."""
    text = parser.get(section, key, fallback="")
    host = (urlsplit(text).hostname or "") if section == "endpoints" else ""
    return "" if host == "example.com" or host.endswith(".example.com") else text


def _policy_base(url: str) -> Iterator[str]:
    for path in _POLICY_PATHS:
        if url.rstrip("/").endswith(path):
            yield url.rstrip("/").removesuffix(path)
            return
