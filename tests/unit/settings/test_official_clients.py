"""The settings of Pacifica's own clients count after ours, and end up under our names."""

from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.settings.option import SECTION, resolve
from pacifica_notifications_consumer.settings.services import Services

CONFIG = """
[globals]
interactive = False
[endpoints]
upload_url = https://site.org/ingest/upload
upload_status_url = https://site.org/ingest/get_state
upload_policy_url = https://policy.example.com/uploader
upload_validation_url = https://site.org/policy/ingest
download_url = https://cartd.example.com
download_policy_url = https://site.org/policy/status/transactions/by_id
ca_bundle = False
[authentication]
type = basic
username = alice
password = 100%
cert =
key =
"""


def home(tmp_path: Path, text: str = CONFIG) -> dict[str, str]:
    (tmp_path / ".pacifica_cli").mkdir()
    (tmp_path / ".pacifica_cli" / "config.ini").write_text(text)
    return {"HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"CARTD_PORT": "1"}, {"cartd_url": "http://127.0.0.1:1"}),
        ({"CARTD_ADDR": "h", "CARTD_PROTO": "https"}, {"cartd_url": "https://h:8081"}),
        ({"CARTD_CART_API_URL": "http://h:2/", "CARTD_PORT": "1"}, {"cartd_url": "http://h:2"}),
        ({"DOWNLOAD_URL": "http://h:3"}, {"cartd_url": "http://h:3"}),
        (
            {"INGEST_ADDR": "h", "INGEST_UPLOAD_PATH": "/up"},
            {"ingest_upload_url": "http://h:8066/up", "ingest_status_url": "http://h:8066/get_state"},
        ),
        ({"INGEST_UPLOAD_URL": "http://h/u"}, {"ingest_upload_url": "http://h/u"}),
        ({"INGEST_STATUS_URL": "http://h/s"}, {"ingest_status_url": "http://h/s"}),
        ({"POLICY_ADDR": "h"}, {"policy_url": "http://h:8181"}),
        ({"POLICY_INGEST_URL": "http://h/p/ingest"}, {"policy_url": "http://h/p"}),
        ({"POLICY_UPLOADER_URL": "http://h/elsewhere"}, {}),
        ({"AUTHENTICATION_TYPE": "None"}, {"authentication": "none"}),
        ({"AUTHENTICATION_USERNAME": "u", "AUTHENTICATION_PASSWORD": "p"}, {"username": "u", "password": "p"}),
        ({"CARTD_PORT": ""}, {}),
    ],
)
def test_variables(environ: dict[str, str], expected: dict[str, Any]) -> None:
    """The variables of the uploader, the downloader and the command line lead where they lead those."""
    assert Services.from_environment(environ) == Services(**expected)


def test_file(tmp_path: Path) -> None:
    """The file gives the endpoints, without the examples in it, and the credentials."""
    assert Services.from_environment(home(tmp_path)) == Services(
        ingest_upload_url="https://site.org/ingest/upload",
        ingest_status_url="https://site.org/ingest/get_state",
        policy_url="https://site.org/policy",
        ca_bundle=False,
        authentication="basic",
        username="alice",
        password="100%",
    )


def test_precedence(tmp_path: Path) -> None:
    """Flag, our variable, their variable, our file, their file: the first that says something is taken."""
    ours = tmp_path / "ours.ini"
    ours.write_text(
        f"[{SECTION}]\nusername = from our file\npolicy_url = http://our-file\ncartd_url = http://our-file\n"
    )
    environ = home(tmp_path) | {
        "PACIFICA_CARTD_URL": "http://our-variable",
        "CARTD_CART_API_URL": "http://their-variable",
        "POLICY_ADDR": "their-variable",
    }
    values = resolve(Services, {"producer_url": "http://flag"}, environ, ours)
    assert values.producer_url == "http://flag"
    assert values.cartd_url == "http://our-variable"
    assert values.policy_url == "http://their-variable:8181"
    assert values.username == "from our file"
    assert values.password == "100%"


def test_parts_of_ingest_give_way_to_its_address(tmp_path: Path) -> None:
    """Who says where ingest is, with our setting, does not get its parts from somewhere else."""
    environ = home(tmp_path) | {"PACIFICA_INGEST_URL": "http://ours", "INGEST_STATUS_URL": "http://theirs/s"}
    services = Services.from_environment(environ)
    assert (services.ingest_url, services.ingest_upload_url, services.ingest_status_url) == ("http://ours", None, None)
    both = Services.from_environment({"PACIFICA_INGEST_URL": "http://a", "PACIFICA_INGEST_STATUS_URL": "http://b/s"})
    assert (both.ingest_url, both.ingest_status_url) == ("http://a", "http://b/s")


@pytest.mark.parametrize("text", ["password = hunter2", "[a\nhunter2", "[a]\nhunter2 hunter2"])
def test_damaged_file(tmp_path: Path, text: str) -> None:
    """A file that cannot be read is named, and nothing of it is quoted."""
    with pytest.raises(ConfigurationError) as caught:
        Services.from_environment(home(tmp_path, text))
    assert "config.ini: it is not a well-formed INI file" in str(caught.value)
    assert "hunter2" not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"CARTD_PORT": "x"}, "it must look like http://HOST:PORT, with a port from 1 to 65535; correct CARTD_PORT"),
        ({"AUTHENTICATION_TYPE": "digest"}, "it must be none, basic, clientssl or gssapi"),
        ({"AUTHENTICATION_CERT": "/nowhere"}, "it must be the path of an existing file"),
        ({"PACIFICA_CA_BUNDLE": "/nowhere"}, "the path of an existing file"),
    ],
)
def test_wrong_values(environ: dict[str, str], problem: str) -> None:
    """A wrong value is told with the variable that holds it."""
    with pytest.raises(ConfigurationError) as caught:
        Services.from_environment(environ)
    assert problem in str(caught.value)


def test_home_that_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that a supervisor hides from its services has no settings, and is no error."""
    environ = home(tmp_path)
    (tmp_path / ".pacifica_cli" / "config.ini").write_text("no INI file")
    with pytest.raises(ConfigurationError):
        resolve(Services, {}, environ)
    monkeypatch.setattr("pacifica_notifications_consumer.settings.official_clients.os.access", lambda *_: False)
    assert resolve(Services, {}, environ).username is None
