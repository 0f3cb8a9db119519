"""A setting has one name in three forms, one precedence, and errors that say where the wrong value stands."""

import argparse
import itertools
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.archive.archive import ArchiveLimits
from pacifica_notifications_consumer.catch_up.catch_up import CatchUpRules
from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.jobs.limits import JobLimits
from pacifica_notifications_consumer.settings import converters as read
from pacifica_notifications_consumer.settings.option import SECTION, Option, resolve
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_runner import defaults as defaults
from pacifica_notifications_runner.options.command_line import add_settings, read_settings
from pacifica_notifications_runner.options.settings import OPTIONS, Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests takes part."""
    for name in os.environ:
        if name.startswith("PACIFICA_"):
            monkeypatch.delenv(name)


def ini(path: Path, text: str) -> Path:
    path.write_text(f"[{SECTION}]\n{text}\n", encoding="utf-8")
    return path


def services(flags: dict[str, Any], environ: dict[str, str], config: Path | None = None) -> Services:
    return resolve(Services, flags, environ, config)


def parse(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_settings(parser, list(OPTIONS))
    return read_settings(parser.parse_args(arguments))


def test_precedence(tmp_path: Path) -> None:
    """The command line comes before the environment, that before the file, that before the default."""
    config = ini(
        tmp_path / "c.ini", "cartd-url = http://file:1\ningest_url = http://file:2\npolicy_url = http://file:3"
    )
    environ = {"PACIFICA_CARTD_URL": "http://environment:1", "PACIFICA_INGEST_URL": "http://environment:2"}
    values = services({"cartd_url": "http://flag:1/"}, environ, config)
    assert values.cartd_url == "http://flag:1"
    assert values.ingest_url == "http://environment:2"
    assert values.policy_url == "http://file:3"
    assert values.producer_url == "http://127.0.0.1:8070"


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_every_setting_has_matching_names(option: Option) -> None:
    """Each setting shows its flag and its variable in --help, but a password has no flag."""
    parser = argparse.ArgumentParser()
    add_settings(parser, list(OPTIONS))
    text = "".join(parser.format_help().split())
    assert (option.flag + (option.metavar or "") in text) == option.has_flag
    assert (f"[{option.variable}]" in text) == option.has_flag
    assert option.variable == "PACIFICA_" + option.flag.removeprefix("--").replace("-", "_").upper()


def test_password_has_no_flag() -> None:
    """A password on the command line, which others can see, is not understood."""
    with pytest.raises(SystemExit) as caught:
        parse("--password", "secret")
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("flags", "environ", "text", "expected"),
    [
        ({"password_file": "F"}, {"PACIFICA_PASSWORD": "environment"}, "password = file", "from the file"),
        ({}, {"PACIFICA_PASSWORD": "environment"}, "password_file = F", "environment"),
        ({}, {"PACIFICA_PASSWORD_FILE": "F"}, "password = ini", "from the file"),
        ({}, {}, "password = 100% sure", "100% sure"),
        ({}, {}, "password_file = F", "from the file"),
        ({}, {}, "", None),
    ],
)
def test_password_sources(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: dict[str, str],
    environ: dict[str, str],
    text: str,
    expected: str | None,
) -> None:
    """The password comes from the foremost place that has one, directly or as a file's name."""
    monkeypatch.chdir(tmp_path)
    Path("F").write_text("from the file\n")
    assert services(flags, environ, ini(tmp_path / "c.ini", text)).password == expected


def test_two_passwords_in_one_place() -> None:
    """A password and a password file side by side are a mistake, not a riddle."""
    with pytest.raises(ConfigurationError, match="both `password` and `password_file`"):
        services({}, {"PACIFICA_PASSWORD": "a", "PACIFICA_PASSWORD_FILE": "b"})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory; correct `password_file`"),
        (b"\n", "set by `password_file`, is empty"),
        (b"\xff", "not text in UTF-8; correct `password_file`"),
    ],
)
def test_unusable_password_file(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """A password file that is missing, empty, or no text is refused."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem):
        services({"password_file": str(path)}, {})


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("--port", "99999"),
            "`port` cannot be '99999': it must be a whole number from 0 to 65,535; correct it on the command line",
        ),
        (("--port", "http"), "it must be a whole number"),
        (("--workers", "0"), "`workers` cannot be '0': it must be a whole number from 1 to 1,000"),
        (("--workers", "1001"), "it must be a whole number from 1 to 1,000"),
        (("--workers", "9" * 5000), "it must be a whole number from 1 to 1,000"),
        (("--max-slow-requests", "100000"), "it must be a whole number from 1 to 1,000"),
        (("--crash-limit", "9" * 30), "it must be a whole number from 0 to 1,000,000,000"),
        (("--port", "9" * 5000), "it must be a whole number from 0 to 65,535"),
        (("--max-body", "9" * 5000), "it must be a number of bytes"),
        (("--job-memory", "9999999999T"), "it must be a number of bytes, such as 500M or 8G, at most 1000000T"),
        (("--keep", "9" * 5000 + "d"), "it must be an age such as 30d"),
        (("--keep", "9" * 30), "it must be an age such as 30d"),
        (("--catch-up-from", "9" * 5000), "it must be the number of a transaction"),
        (("--grace", "1e300"), "it must be a number of seconds from 0 to 1,000,000,000"),
        (("--grace", "1e400"), "it must be a number of seconds from 0 to 1,000,000,000"),
        (("--attempts", "-1"), "it must be a whole number from 1 to 1,000"),
        (("--job-timeout", "soon"), "it must be a number of seconds"),
        (("--job-timeout", "-1"), "it must be a number of seconds from 0 to 1,000,000,000"),
        (("--grace", "inf"), "it must be a number of seconds from 0 to 1,000,000,000"),
        (("--grace", "nan"), "it must be a number of seconds from 0 to 1,000,000,000"),
        (("--log-format", "xml"), "it must be text or json"),
        (("--producer-url", "localhost:8070"), "it must look like http://HOST:PORT"),
        (("--producer-url", "ftp://localhost"), "it must look like http://HOST:PORT"),
        (("--producer-url", "http://h:99999"), "with a port from 1 to 65535"),
        (("--producer-url", "http://[::1"), "it must look like http://HOST:PORT"),
        (("--producer-url", "http://h y"), "it must not contain blanks"),
        (("--cartd-url", "http://a\n.b"), "it must not contain blanks"),
        (("--producer-url", "http://a..b"), "a part of the host's name is empty or too long"),
        (
            ("--cartd-url", "http://me:secret@host"),
            "`cartd_url` cannot be this text: credentials do not belong into it",
        ),
        (("--cartd-url", "http://host/?token=secret"), "`cartd_url` cannot be this text: it must end with its path"),
        (("--cartd-url", "http://host/#secret"), "`cartd_url` cannot be this text: it must end with its path"),
        (("--policy-url", "host?token=secret"), "`policy_url` cannot be this text: it must look like"),
        (("--target-url", "me:secret@host:80"), "`target_url` cannot be this text: it must look like"),
        (("--proxy-url", "http:/host#secret"), "`proxy_url` cannot be this text: it must look like"),
        (("--username", "müller"), "it must be printable ASCII"),
        (("--username", "a\nb"), "it must be printable ASCII"),
        (("--name", "a/b"), "without /"),
        (("--name", ".."), "start with a dot"),
        (("--config", "/nowhere.ini"), "the configuration /nowhere.ini: No such file or directory; correct `config`"),
    ],
)
def test_wrong_values(arguments: tuple[str, ...], problem: str) -> None:
    """A wrong value is refused, with the name of the setting and what it should be."""
    with pytest.raises(ConfigurationError) as caught:
        parse(*arguments)
    assert problem in str(caught.value)


def test_source_of_a_wrong_value_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error tells the variable or the file and key that hold the wrong value."""
    config = ini(tmp_path / "c.ini", "port = x")
    with pytest.raises(ConfigurationError, match=r"`port` cannot be 'x': .*; correct it in .*c\.ini$"):
        parse("--config", str(config))
    monkeypatch.setenv("PACIFICA_PORT", "y")
    with pytest.raises(ConfigurationError, match=r"`port` cannot be 'y': .*; correct the variable PACIFICA_PORT$"):
        parse("--config", str(config))


CHECKED = [option for option in OPTIONS.values() if option.convert not in (str, Path, read.module_names)]


@pytest.mark.parametrize("option", CHECKED, ids=lambda option: option.name)
def test_wrong_value_of_each_setting(option: Option) -> None:
    """Whichever setting has a wrong value, the error names the setting, and the variable that holds the value."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(Settings, {}, {option.variable: "\x01"})
    shown = "this text" if option.secret else repr("\x01")
    assert caught.value.problem.startswith(f"`{option.name}` cannot be {shown}: ")
    assert caught.value.advice == f"correct the variable {option.variable}"


def test_unknown_key(tmp_path: Path) -> None:
    """A key that is not a setting is refused, with the one that was probably meant."""
    with pytest.raises(ConfigurationError, match=r"producer_ur, which is not a setting; did you mean producer_url\?"):
        parse("--config", str(ini(tmp_path / "c.ini", "producer_ur = http://h")))


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (("--webhook-rate", "5"), "`webhook_rate` has no effect without `response_policy` strict"),
        (("--queue", "q"), "`queue` has no effect without `engine` celery"),
        (("--preload", "json", "--start", "cold"), "`preload` has no effect without `start` warm"),
        (("--venv-cache-keep", "3d"), "`venv_cache_keep` has no effect without `venv_cache`"),
        (("--catch-up-from", "3"), "`catch_up_from` has no effect without `policy_url`"),
        (("--preload", "json"), ""),
        (("--queue", "q", "--engine", "celery"), ""),
        (("--catch-up-from", "3", "--policy-url", "http://p"), ""),
    ],
)
def test_flag_without_effect(caplog: pytest.LogCaptureFixture, arguments: tuple[str, ...], needed: str) -> None:
    """A flag that does nothing without another setting is reported, since it was given for a purpose."""
    parse(*arguments)
    assert [record.getMessage() for record in caplog.records] == [needed] * bool(needed)


@pytest.mark.parametrize(
    "name", ["run_as", "address", "status_address", "state_dir", "venv_cache", "ca_bundle", "keep"]
)
def test_empty_value(tmp_path: Path, name: str) -> None:
    """An empty flag or key, such as that of an unset variable of a script, does not stand for the default."""
    with pytest.raises(ConfigurationError, match=f"`{name}` is empty; leave it out, or correct it on the command line"):
        resolve(Settings, {name: ""}, {})
    with pytest.raises(ConfigurationError, match=rf"`{name}` is empty; leave it out, or correct it in .*c\.ini"):
        resolve(Settings, {}, {}, ini(tmp_path / "c.ini", f"{name} ="))


def test_misspelt_variable(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A variable that resembles a setting is reported; one of another program is not."""
    monkeypatch.setenv("PACIFICA_WORKER", "3")
    monkeypatch.setenv("PACIFICA_METADATA_HOST", "h")
    assert parse().workers is None
    assert [record.getMessage() for record in caplog.records] == [
        "the variable PACIFICA_WORKER is ignored, since it is not a setting; did you mean workers?"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("port = 1\nport = 2", r"c\.ini \(line 3\) has port a second time; remove one of them"),
        ("job-memory = 1\njob_memory = 2", r"c\.ini has job_memory a second time, as job_memory; remove one of them"),
        (f"[{SECTION}]", r"c\.ini \(line 2\) has the section \[.*\] a second time; remove one of them"),
    ],
)
def test_repeated_key(tmp_path: Path, text: str, problem: str) -> None:
    """A key or section that a file has twice is refused, with its name."""
    with pytest.raises(ConfigurationError, match=problem):
        parse("--config", str(ini(tmp_path / "c.ini", text)))


def test_file_of_an_editor_that_marks_its_encoding(tmp_path: Path) -> None:
    """The byte order mark with which some editors begin a file is not a part of it."""
    config = tmp_path / "c.ini"
    config.write_text(f"[{SECTION}]\nport = 7\n", encoding="utf-8-sig")
    assert parse("--config", str(config)).port == 7


@pytest.mark.parametrize("text", ["password hunter2", "[other]\na=1", "[x\n", "\xff"])
def test_malformed_file_reveals_nothing(tmp_path: Path, text: str) -> None:
    """An INI file that cannot be read is refused, without quoting a line that may hold a password."""
    path = tmp_path / "c.ini"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError) as caught:
        parse("--config", str(path))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None or not isinstance(caught.value.__cause__, KeyError)


def test_values_of_all_kinds(tmp_path: Path) -> None:
    """Numbers, durations, switches and paths of a file become what they should."""
    config = ini(tmp_path / "c.ini", "verbose = on\njob-timeout = 0\nsetup_timeout = 1.5\nworkers = 3\nstate_dir = /s")
    values = parse("--config", str(config))
    assert (values.verbose, values.job_timeout, values.setup_timeout) == (True, None, 1.5)
    assert (values.workers, values.state_dir) == (3, Path("/s"))
    assert parse("--verbose").verbose is True
    assert parse().verbose is False


def test_services_pass_through_an_environment() -> None:
    """What the runner hands to an entry-point's environment arrives there whole."""
    given = Services(policy_url="http://p", username="alice", password="secret", consumer="mine")
    assert Services.from_environment(given.environ()) == given
    assert Services.from_environment({}) == Services()


def test_file_of_the_commands_serves_entry_points(tmp_path: Path) -> None:
    """An entry-point reads what concerns it from the file that configures the start command."""
    config = ini(tmp_path / "c.ini", "workers = 4\nusername = alice")
    assert Services.from_environment({"PACIFICA_CONFIG": str(config)}).username == "alice"


def test_target_needs_a_path() -> None:
    """A target without a path would be answered with 404, and the subscription be disabled."""
    with pytest.raises(ConfigurationError, match="it must end with the path"):
        parse("--target-url", "http://proxy:80")
    assert parse("--target-url", "http://proxy:80/receive").target_url == "http://proxy:80/receive"


def test_services_hide_the_password() -> None:
    """Printing the services does not print the password."""
    assert "hunter2" not in repr(Services(username="alice", password="hunter2"))


def test_default_names_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two users, or two archives, do not end up with one name, and each name has a state directory of its own."""
    names = {
        defaults.default_name(Path(f"/{folder}.zip"), user) for folder in ("one", "two") for user in ("alice", "bob")
    }
    assert len(names) == 4
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert {defaults.default_state_dir(name).parent for name in names} == {tmp_path / SECTION}


@pytest.mark.parametrize("stem", ["größe", "a\nb", "x\udcff"])
def test_default_name_that_cannot_be_used(stem: str) -> None:
    """An archive whose name cannot be part of a consumer's name is refused at once, in a sentence, but for a trial."""
    with pytest.raises(ConfigurationError) as caught:
        defaults.default_name(Path(f"/{stem}.zip"), "alice")
    trial = defaults.default_name(Path(f"/{stem}.zip"), "alice", trial=True)
    assert trial == f"alice@{socket.gethostname()}:{ascii(stem)[1:-1]}"
    name = f"alice@{socket.gethostname()}:{stem}"
    assert str(caught.value) == (
        f"a consumer cannot be called {name!r}: it must be printable ASCII, and not empty; "
        f"rename /{stem}.zip, or set `name`"
    )


def test_default_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The cache of environments is in the user's own directory of caches; without one that is usable there is none."""
    caplog.set_level("INFO")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert defaults.default_venv_cache() == tmp_path / ".cache" / SECTION / "environments"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    found = defaults.default_venv_cache()
    assert found == tmp_path / "caches" / SECTION / "environments"
    assert found.stat().st_mode & 0o077 == 0
    assert caplog.text == ""
    (tmp_path / "file").touch()
    for place, reason in (("file", "cannot be used: Not a directory"), ("caches", "belongs to another user")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert defaults.default_venv_cache() is None
        assert reason in caplog.text
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/")
    assert defaults.default_venv_cache() is None
    with pytest.raises(ConfigurationError, match="this user has no home directory; set `state_dir`"):
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        defaults.default_state_dir("x")


def test_username_is_required() -> None:
    """Without a user the producer would disable the subscription at the first notification."""
    with pytest.raises(ConfigurationError, match="the user name is missing; set `username`"):
        defaults.require_username(None)


def test_settings_of_other_classes_are_in_their_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of the library gets its own settings, under their names, and its defaults for those that are not set."""
    monkeypatch.setenv("PACIFICA_JOB_MEMORY", "8G")
    settings = parse("--max-head", "1K", "--catch-up-rate", "5", "--job-cpu", "0")
    assert settings.job_limits == JobLimits(memory=8 << 30)
    assert settings.server_limits == ServerLimits(head=1024)
    assert settings.catch_up == CatchUpRules(rate=5.0)
    assert settings.archive_limits == ArchiveLimits()


def test_each_setting_is_in_one_group() -> None:
    """A heading of the help stands over fields that follow each other, so that none has two places."""
    groups = [group for group, _ in itertools.groupby(OPTIONS.values(), key=lambda option: option.group)]
    assert "" not in groups
    assert len(groups) == len(set(groups))
