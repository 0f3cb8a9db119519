"""The output of an installer is turned into one sentence that names the requirement."""

import pytest

from pacifica_notifications_consumer.environment.installer_errors import requirement_error


@pytest.mark.parametrize(
    ("said", "problem", "advice"),
    [
        (
            (
                "ERROR: Could not find a version that satisfies the requirement promises (from versions: none)\n"
                "ERROR: No matching distribution found for promises"
            ),
            "the requirement 'promises' cannot be installed",
            "did you mean 'promise'?",
        ),
        (
            "ERROR: Invalid requirement: 'foo bar' (from line 1 of requirements.txt)",
            "the requirement 'foo bar' cannot be installed",
            "correct it in requirements.txt",
        ),
        (
            (
                "ERROR: Cannot install pacifica-notifications-consumer==0.1.0 and requests==2.20.0 because these "
                "package versions have conflicting dependencies.\n    The user requested requests==2.20.0\n"
            ),
            "the requirements pacifica-notifications-consumer==0.1.0 and requests==2.20.0 contradict each other",
            "loosen the versions",
        ),
        (
            (
                "ERROR: Cannot install x and y because these package versions have conflicting dependencies.\n"
                "    The user requested Pacifica.Notifications_Consumer>=9\n"
            ),
            "requirements.txt asks for another version of pacifica-notifications-consumer than the running",
            "remove the version",
        ),
        (
            "ERROR: Could not build wheels for broken, which is required to install pyproject.toml-based projects",
            "the requirement 'broken' cannot be installed",
            "choose a version that has a wheel",
        ),
        (
            "ERROR: Failed to build installable wheels for some pyproject.toml based projects (broken)",
            "the requirement 'broken' cannot be installed",
            "choose a version that has a wheel",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "a package does not match its hash in requirements.txt",
            "find out why the package changed",
        ),
        (
            "ERROR: Hashes are required in --require-hashes mode, but they are missing from some requirements here.",
            "requirements.txt has a hash for some requirements, but not for all",
            "remove pacifica-notifications-consumer",
        ),
        (
            (
                "error: No solution found when resolving dependencies\n  cause: Because promises was not found in the "
                "package registry and you require promises, we can conclude that your requirements are unsatisfiable."
            ),
            "the requirement 'promises' cannot be installed",
            "did you mean 'promise'?",
        ),
        (
            "  cause: Because there is no version of requests==99.1 and you require requests==99.1, we can conclude …",
            "the requirement 'requests==99.1' cannot be installed",
            "correct it in requirements.txt",
        ),
        (
            (
                "  cause: Because requests==2.20.0 depends on urllib3>=1.21.1,<1.25 and you require requests==2.20.0, "
                "we can conclude that you require urllib3>=1.21.1,<1.25.\n     And because you require urllib3==2.1.0, "
                "we can conclude that your requirements are unsatisfiable."
            ),
            "the requirements requests==2.20.0 and urllib3==2.1.0 contradict each other",
            "loosen the versions",
        ),
        (
            (
                "error: Couldn't parse requirement in `r.txt` at position 0\n  cause: Expected one of `@`, found `a`\n"
                "         not a requirement!\n             ^"
            ),
            "the requirement 'not a requirement!' cannot be installed",
            "correct it",
        ),
        (
            "  cause: Because all versions of minerals have no source distribution and you require minerals, we can …",
            "the requirement 'minerals' cannot be installed",
            "correct it",
        ),
        (
            "error: Failed to build `broken @ file:///tmp/broken`\n  cause: The build backend returned an error",
            "the requirement 'broken' cannot be installed",
            "choose a version that has a wheel",
        ),
        (
            (
                "  cause: Because there is no version of pacifica-notifications-consumer==9.9 and you require "
                "pacifica-notifications-consumer==9.9, we can conclude that your requirements are unsatisfiable."
            ),
            "requirements.txt asks for another version of pacifica-notifications-consumer than the running",
            "remove the version",
        ),
        (
            "error: Failed to download `six==1.17.0`\n  cause: Hash mismatch for `six==1.17.0`",
            "a package does not match its hash in requirements.txt",
            "find out why the package changed",
        ),
        (
            "error: In `--require-hashes` mode, all requirements must have a hash, but none were provided for: idna",
            "requirements.txt has a hash for some requirements, but not for all",
            "remove pacifica-notifications-consumer",
        ),
        (
            "  Preparing metadata (pyproject.toml) did not run successfully.\nerror: metadata-generation-failed",
            "the requirements cannot be installed: building a package from its source failed",
            "set `python` to one that it supports",
        ),
        (
            "error: Failed to build `sklearn==0.0.post12`\n  cause: The build backend returned an error",
            "the requirement 'sklearn==0.0.post12' cannot be installed: building it from its source failed",
            "did you mean 'scikit-learn'?",
        ),
        (
            (
                "error: Failed to download and build `x @ git+http://host/x.git`\n  cause: Git operation failed\n"
                "         fatal: unable to access 'http://bob:word@host/x.git/': Could not resolve host: host"
            ),
            "the requirements cannot be installed: the server http://host cannot be read: Could not resolve host: host",
            "check the network",
        ),
        (
            (
                "error: Error parsing included file in `requirements.txt` at position 0\n"
                "  cause: Error while accessing remote requirements file: http://bob:****@host:9/r.txt\n"
                "  cause: client error (Connect)\n  cause: Connection refused (os error 111)"
            ),
            "the requirements cannot be installed: the package index http://host:9 cannot be read: Connection refused",
            "check the network",
        ),
        (
            (
                "error: connection-failed\n\nFailed to connect to host while fetching http://bob:word@host:9/x.whl\n"
                "╰─> [Errno 111] Connection refused"
            ),
            "the requirements cannot be installed: the server http://host:9 cannot be read: Connection refused",
            "check the network",
        ),
        (
            "ERROR: No matching distribution found for nothing-such (from needs-it)",
            "the requirement 'nothing-such' cannot be installed",
            "correct it",
        ),
        ("something else entirely", "the requirements cannot be installed", "see the output of the installer below"),
    ],
)
def test_words_of_the_installer(said: str, problem: str, advice: str) -> None:
    """The error names the requirement, advises a correction, and quotes the output without warnings."""
    error = requirement_error(f"WARNING: a mirror is slow\n{said}")
    assert error.problem.startswith(problem)
    assert advice in error.advice
    assert error.output == said.rstrip("\n")


NEW = "<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>"


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (
            f"NewConnectionError('{NEW}: Failed to establish a new connection: [Errno 111] Connection refused')",
            "Connection refused",
        ),
        (
            f"NewConnectionError('{NEW}: Failed to establish a new connection: [Errno -2] Name or service not known')",
            "Name or service not known",
        ),
        (
            f"ConnectTimeoutError({NEW}, 'Connection to host timed out. (connect timeout=15.0)')",
            "Connection to host timed out",
        ),
        (
            "ReadTimeoutError(\"HTTPSConnectionPool(host='host', port=44): Read timed out. (read timeout=15)\")",
            "Read timed out",
        ),
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: FAILED] failed: self-signed certificate (_ssl.c:1006)'))",
            "self-signed certificate",
        ),
        ("ResponseError('too many 503 error responses')", "too many 503 error responses"),
    ],
)
def test_unreachable_index_in_plain_words(cause: str, reason: str) -> None:
    """Of what pip's libraries say, the error has the address without credentials, and the reason."""
    pool = "HTTPSConnectionPool(host='host', port=44)"
    raw = f"{pool}: Max retries exceeded with url: /simple/six/ (Caused by {cause})"
    log = f"2026-01-01T00:00:00,000 Could not fetch URL https://bob:word@host:44/simple/six/: {raw} - skipping\n"
    said = "ERROR: No matching distribution found for six"
    expected = f"the requirements cannot be installed: the package index https://host:44 cannot be read: {reason}"
    assert requirement_error(said, log).problem == expected
    assert requirement_error(f"ERROR: Could not install packages due to an OSError: {raw}").problem == expected


@pytest.mark.parametrize("mark", ["", "[present-rich] "], ids=["newer pip", "older pip"])
def test_what_a_build_printed(mark: str) -> None:
    """Pip writes it into its log only, among the words of others, and the error quotes it."""
    now = "2026-01-01T00:00:00,000"
    log = (
        f"{now}   Running command git clone --quiet x\n{now}   cloned\n"
        f"{now}   Running command Installing build dependencies\n{now}   fine\n"
        f"{now}   Running command Getting requirements to build wheel\n{now}   no compiler\n{now} of another pip\n"
        f"{now}   ERROR: {mark}Getting requirements to build wheel exited with 1\n{now}   [bold magenta]cwd[/]: /x\n"
    )
    said = "Processing ./broken\n  Getting requirements to build wheel did not run successfully."
    error = requirement_error(said, log)
    assert error.problem == "the requirement './broken' cannot be installed: building it from its source failed"
    assert error.output == f"{said}\n  no compiler"


@pytest.mark.parametrize(
    "said",
    ["Collecting x ", "Cannot install ", "Because only ", "none of the wheel's tags /", "x(from versions: none)"],
)
def test_output_that_would_take_long(said: str) -> None:
    """Hostile output and logs are searched in a moment, not in hours."""
    line = f"{said * (60_000 // len(said))}\n"
    failure = "ERROR: No matching distribution found for x (from versions: none)\n"
    error = requirement_error(100 * line + failure, 100 * line)
    assert error.problem.startswith("the requirement")
