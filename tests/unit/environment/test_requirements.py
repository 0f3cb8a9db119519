"""Requirements files are read as the installers read them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pacifica_notifications_consumer.environment.requirements import Requirements
from pacifica_notifications_consumer.errors import RequirementError
from pacifica_notifications_consumer.system.account import Account
from tests.support.machine.other_user import NOBODY, as_root
from tests.support.machine.scratch import scratch_directory

HASH = f"sha256:{64 * '0'}"


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
        found = [(line.text, line.is_constraint) for line in read(tmp_path, f"{include}\n./missing\n-r no.txt").lines]
        assert found == [
            (include, False),
            ("-c ../limits.txt", False),
            ("two<2", True),
            ("one", False),
            ("-r ../requirements.txt", False),
            ("./missing", False),
            ("-r no.txt", False),
        ]
    by_address = read(tmp_path, f"--constraint file://{tmp_path}/limits.txt")
    assert [line.is_constraint for line in by_address.lines] == [False, True]


@pytest.mark.parametrize(
    ("text", "has_hashes"),
    [
        ("six==1.0", False),
        ("six==1.0 # --hash=md5:0", False),
        (f"six==1.0 --hash={HASH}", True),
        (f"six[x] === 1.0 ; a > '3' --hash {HASH}", True),
        (f"./six.whl --hash={HASH} \\\n --hash sha512:{128 * 'a'} --hash=sha384:{96 * '9'}", True),
        ("--require-hashes", True),
        ("-r hashed.txt", True),
    ],
)
def test_hashes(tmp_path: Path, text: str, has_hashes: bool) -> None:
    """Hashes are found wherever they are."""
    (tmp_path / "hashed.txt").write_text(f"six==1.0 --hash={HASH}\n")
    assert read(tmp_path, text).has_hashes == has_hashes


@pytest.mark.parametrize(
    ("line", "problem", "advice"),
    [
        *(
            (f"{name} --hash={HASH}", f"the requirement {name!r} has a hash, but not one version", "with ==")
            for name in ("six>=1.0", "six", "six==1.*", "six==1.0,<2")
        ),
        *(
            (
                f"six==1.0 --hash={HASH} --hash{way}",
                f"the hash {way[1:]!r} is not one that every installer checks",
                "write sha256: and 64 hexadecimal digits in lower case",
            )
            for way in (
                f"=sha256:{64 * 'A'}",
                f" SHA256:{64 * 'a'}",
                f"=sha256:{63 * 'a'}",
                f"=sha256:{65 * 'a'}",
                f"=sha256:{64 * 'g'}",
                f"=sha512:{64 * 'a'}",
                f"=md5:{32 * 'a'}",
                f"=sha1:{40 * 'a'}",
                f"=blake2b:{64 * 'a'}",
                f"={64 * 'a'}",
                "=sha256:",
                "=",
            )
        ),
        *(
            (
                f"{name}==2.3 --hash={HASH}",
                f"'{name}==2.3' is read as promise, so it cannot have a hash",
                "write promise",
            )
            for name in ("promises", "Promises")
        ),
        *(
            (line, f"{line.partition('>')[0]!r} is read as promise, which has no extras", "write promise")
            for line in ("promises[x]", "Promises [x, y]>=1", "promises[]")
        ),
        *(
            (line, f"{line!r} has a path after @ or file:, where not every installer takes one", f"the path, {path}")
            for line, path in (
                ("mylab @ file:wheels/x.whl", "./wheels/x.whl"),
                ("my.lab[all]@file:./x.whl#sha256=00 ; a > '3'", "./x.whl"),
                ("mylab @ ../my%20x.whl", "../my x.whl"),
                ("mylab @ file:/srv/x.whl", "/srv/x.whl"),
                ("mylab @ file:////srv/x.whl", "/srv/x.whl"),
                ("file:wheels/x.whl", "./wheels/x.whl"),
                ("-e file:lab", "./lab"),
                ("--find-links=file:wheels", "./wheels"),
            )
        ),
    ],
)
def test_lines_that_installers_would_not_treat_alike(tmp_path: Path, line: str, problem: str, advice: str) -> None:
    """They are refused by file and line before an installer runs, so that the same file is safe with each."""
    (tmp_path / "more.txt").write_text(f"# comment\nfirst \\\n  ==1.0\n\n{line}\n")
    with pytest.raises(RequirementError) as caught:
        read(tmp_path, "rocks\n-r more.txt\n")
    assert caught.value.problem == f"more.txt:5: {problem}"
    assert advice in caught.value.advice


def test_hashes_of_constraints(tmp_path: Path) -> None:
    """They are refused, because old versions of pip and uv do not check them."""
    (tmp_path / "hashed.txt").write_text(f"six==1.0 --hash={HASH}\n")
    with pytest.raises(RequirementError) as caught:
        read(tmp_path, "six==1.0\n-c hashed.txt")
    problem = "the constraint 'six==1.0' has a hash, which not every installer checks"
    assert str(caught.value) == f"hashed.txt:1: {problem}; include its file with -r instead of -c"


@pytest.mark.parametrize(
    "line",
    [
        "mylab @ file:///srv/x.whl",
        "mylab@file://localhost/srv/x.whl",
        "mylab[all] @ git+ssh://git@host/lab.git",
        "-e git+ssh://git@host/lab.git",
        "--index-url https://user:word@host/simple",
        "https://host/profile:x.whl",
        'six --config-settings "a=b@c"',
        "promises",
        "promises-more==1.0 --hash=HASH",
        "file:///srv/x.whl",
        "./x@file",
    ],
)
def test_lines_that_installers_treat_alike(tmp_path: Path, line: str) -> None:
    """Addresses, and texts that only resemble paths, are left to the installer."""
    assert len(read(tmp_path, line.replace("HASH", HASH)).lines) == 1


@pytest.mark.parametrize(("content", "position"), [(b"# \xe9\nsix", 2), (b"s\0i\0x\0", 1), (b"\xff\xfes", 2)])
def test_other_encodings(tmp_path: Path, content: bytes, position: int) -> None:
    """A file in another encoding is refused with its name and the place."""
    with pytest.raises(RequirementError, match=rf"requirements.txt is not text in UTF-8 \(byte {position}\); save it"):
        read(tmp_path, content)


def test_file_without_an_end(tmp_path: Path) -> None:
    """An included file that does not fit into the memory is refused."""
    (tmp_path / "more.txt").touch()
    os.truncate(tmp_path / "more.txt", 1 << 40)
    with pytest.raises(RequirementError, match=r"^more.txt cannot be read: it has more than \d+ bytes"):
        read(tmp_path, "-r more.txt")


@as_root
def test_included_file_that_is_closed() -> None:
    """A file that the user may not even look at is named."""
    with scratch_directory("/tmp", 0o755) as place:  # noqa: S108  (another one may be closed to the user)
        (place / "closed").mkdir(mode=0o700)
        (place / "requirements.txt").write_text("-r closed/more.txt")
        with Account.find(NOBODY).acting(), pytest.raises(RequirementError) as caught:
            Requirements.read(place / "requirements.txt", {})
    said = f"{place}/closed/more.txt cannot be read: Permission denied; correct its path or its rights"
    assert str(caught.value) == said


def test_included_file_with_a_long_name(tmp_path: Path) -> None:
    """A name that no file can have is shortened in the sentence about it."""
    with pytest.raises(RequirementError, match=r"a… cannot be read: File name too long; use a shorter name$") as caught:
        read(tmp_path, f"-r {'a' * 5000}")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("files", "size", "refused"), [(100, 10, False), (101, 10, True), (1200, 0, True), (5, 1 << 20, True)]
)
def test_much_that_is_included(tmp_path: Path, files: int, size: int, *, refused: bool) -> None:
    """Files that include each other have limits in number and size, beyond which a sentence says so."""
    for number in range(1, files):
        following = f"-r {number + 1}.txt\n" if number + 1 < files else ""
        (tmp_path / f"{number}.txt").write_text(following + "#" * size)
    if refused:
        with pytest.raises(RequirementError, match=re.escape("more than 100 files, or 4 MiB")):
            read(tmp_path, "-r 1.txt")
    else:
        assert len(read(tmp_path, "-r 1.txt").lines) == files - 1
