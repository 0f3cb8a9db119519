"""Requirements files are read as the installers read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacifica_notifications_consumer.environment.requirements import Requirements
from pacifica_notifications_consumer.errors import RequirementError


def read(directory: Path, content: str | bytes, **variables: str) -> Requirements:
    (directory / "requirements.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return Requirements.read(directory / "requirements.txt", variables)


def test_lines(tmp_path: Path) -> None:
    """Comments and empty lines are left out, continued lines joined, and variables replaced if they are set."""
    text = "# first\n\n six \\\n  ==1.0  # why\r\nx @ https://${HOST}/x#egg=x\n${UNSET}/y\n${lower}\n"
    expected = ["six    ==1.0", "x @ https://host/x#egg=x", "${UNSET}/y", "${lower}"]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        requirements = read(tmp_path, text.encode(encoding), HOST="host", lower="no")
        assert [line.text for line in requirements.lines] == expected


def test_included_files(tmp_path: Path) -> None:
    """The lines of included files follow; paths are relative to the file that names them, and circles end."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.txt").write_text("-c ../limits.txt\none\n-r ../requirements.txt\n")
    (tmp_path / "limits.txt").write_text("two<2\n")
    for include in ("-r deep/one.txt", "-rdeep/one.txt", "--requirement=deep/one.txt", "-r 'deep/one.txt'"):
        found = [(line.text, line.is_constraint) for line in read(tmp_path, f"{include}\nmissing @ x\n-r no.txt").lines]
        assert found == [
            (include, False),
            ("-c ../limits.txt", False),
            ("two<2", True),
            ("one", False),
            ("-r ../requirements.txt", False),
            ("missing @ x", False),
            ("-r no.txt", False),
        ]
    by_address = read(tmp_path, f"--constraint file://{tmp_path}/limits.txt")
    assert [line.is_constraint for line in by_address.lines] == [False, True]


@pytest.mark.parametrize(
    ("text", "has_hashes"),
    [
        ("six==1.0", False),
        ("six==1.0 # --hash=sha256:0", False),
        ("six==1.0 --hash=sha256:0", True),
        ("six[x] === 1.0 ; a > '3' --hash sha256:0", True),
        ("./six.whl --hash=sha256:0", True),
        ("--require-hashes", True),
        ("-r hashed.txt", True),
    ],
)
def test_hashes(tmp_path: Path, text: str, has_hashes: bool) -> None:
    """Hashes are found wherever they are."""
    (tmp_path / "hashed.txt").write_text("six==1.0 --hash=sha256:0\n")
    assert read(tmp_path, text).has_hashes == has_hashes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("six>=1.0 --hash=sha256:0", "the requirement 'six>=1.0' has a hash, but not one version"),
        ("six --hash sha256:0", "the requirement 'six' has a hash, but not one version"),
        ("six==1.* --hash=sha256:0", "the requirement 'six==1.*' has a hash, but not one version"),
        ("six==1.0,<2 --hash=sha256:0", "the requirement 'six==1.0,<2' has a hash, but not one version"),
        ("six==1.0\n-c hashed.txt", "the constraint 'six==1.0' has a hash, which not every installer checks"),
    ],
)
def test_hashes_that_not_every_installer_checks(tmp_path: Path, text: str, problem: str) -> None:
    """They are refused, so that the same file is safe with each."""
    (tmp_path / "hashed.txt").write_text("six==1.0 --hash=sha256:0\n")
    with pytest.raises(RequirementError) as caught:
        read(tmp_path, text)
    assert caught.value.problem == problem


@pytest.mark.parametrize(("content", "position"), [(b"# \xe9\nsix", 2), (b"s\0i\0x\0", 1), (b"\xff\xfes", 2)])
def test_other_encodings(tmp_path: Path, content: bytes, position: int) -> None:
    """A file in another encoding is refused with its name and the place."""
    with pytest.raises(RequirementError, match=rf"requirements.txt is not text in UTF-8 \(byte {position}\); save it"):
        read(tmp_path, content)
