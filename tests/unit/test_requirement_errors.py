"""What an installer says of a requirement becomes one sentence that names it."""

import pytest

from pacifica_notifications_consumer.requirement_errors import requirement_error


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
            "leave its version out",
        ),
        (
            "ERROR: Could not build wheels for broken, which is required to install pyproject.toml-based projects",
            "the requirement 'broken' cannot be installed",
            "correct it",
        ),
        (
            "ERROR: Failed to build installable wheels for some pyproject.toml based projects (broken)",
            "the requirement 'broken' cannot be installed",
            "correct it",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "a package is not the one whose hash stands in requirements.txt",
            "find out why it changed",
        ),
        (
            "ERROR: Hashes are required in --require-hashes mode, but they are missing from some requirements here.",
            "requirements.txt has a hash for some requirements, but not for all",
            "leave out pacifica-notifications-consumer",
        ),
        ("something else entirely", "the requirements cannot be installed", "what the installer said stands below"),
    ],
)
def test_words_of_the_installer(said: str, problem: str, advice: str) -> None:
    """The requirement and the way out are found in the installer's words, which are quoted without its warnings."""
    error = requirement_error(f"WARNING: a mirror is slow\n{said}")
    assert error.problem.startswith(problem)
    assert advice in error.advice
    assert error.output == said.rstrip("\n")
