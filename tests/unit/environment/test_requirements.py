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
    ("text", "has_hashes", "need_pip"),
    [
        ("six==1.0", False, False),
        ("six==1.0 # --hash=sha256:0", False, False),
        ("six==1.0 --hash=sha256:0", True, False),
        ("six[x] === 1.0 ; a > '3' --hash sha256:0", True, False),
        ("six>=1.0 --hash=sha256:0", True, True),
        ("six==1.* --hash=sha256:0", True, True),
        ("six==1.0,<2 --hash=sha256:0", True, True),
        ("./six.whl --hash=sha256:0", True, False),
        ("--require-hashes", True, False),
        ("-r hashed.txt", True, False),
        ("-c hashed.txt", True, True),
    ],
)
def test_hashes(tmp_path: Path, text: str, has_hashes: bool, need_pip: bool) -> None:
    """Hashes are found wherever they are, and those that uv does not check."""
    (tmp_path / "hashed.txt").write_text("six==1.0 --hash=sha256:0\n")
    requirements = read(tmp_path, text)
    assert (requirements.has_hashes, requirements.need_pip) == (has_hashes, need_pip)


@pytest.mark.parametrize(("content", "position"), [(b"# \xe9\nsix", 2), (b"s\0i\0x\0", 1), (b"\xff\xfes", 2)])
def test_other_encodings(tmp_path: Path, content: bytes, position: int) -> None:
    """A file in another encoding is refused with its name and the place."""
    with pytest.raises(RequirementError, match=rf"requirements.txt is not text in UTF-8 \(byte {position}\); save it"):
        read(tmp_path, content)
