"""The wheel of the running package is complete, reproducible and accepted by pip."""

import hashlib
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from importlib.metadata import distribution
from pathlib import Path

import pytest

import pacifica_notifications_consumer
from pacifica_notifications_consumer.environment import wheel as wheel_module
from pacifica_notifications_consumer.environment.wheel import DISTRIBUTION, build_wheel
from pacifica_notifications_consumer.errors import VenvError


def test_contents(tmp_path: Path) -> None:
    """The wheel contains the running modules, the metadata of the installed version, and correct hashes."""
    path = build_wheel(tmp_path)
    version = distribution(DISTRIBUTION).version
    assert path.name == f"pacifica_notifications_consumer-{version}-py3-none-any.whl"
    info = f"pacifica_notifications_consumer-{version}.dist-info"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        source = Path(pacifica_notifications_consumer.__file__).with_name("errors.py")
        assert wheel.read("pacifica_notifications_consumer/errors.py") == source.read_bytes()
        assert {"pacifica_notifications_consumer/py.typed", "pacifica_notifications_runner/start.py"} <= names
        assert {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")} <= names
        assert not [name for name in names if name.endswith(".pyc")]
        for line in wheel.read(f"{info}/RECORD").decode().split():
            name, digest, size = line.split(",")
            if digest:
                content = wheel.read(name)
                expected = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                assert (digest, size) == (f"sha256={expected}", str(len(content)))


@pytest.mark.parametrize(
    ("name", "value", "lacks"),
    [
        ("_METADATA", {"NOTES": ("notes.txt",)}, "NOTES"),
        ("find_spec", lambda _: None, "package pacifica"),
    ],
)
def test_incomplete_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, lacks: str
) -> None:
    """No wheel is built of an installation that lacks a part; the error says what to do."""
    monkeypatch.setattr(wheel_module, name, value)
    with pytest.raises(VenvError, match=f"lacks its {lacks}.*; install it into .* again, from the same source"):
        build_wheel(tmp_path)


def test_same_input_same_bytes(tmp_path: Path) -> None:
    """Two wheels of one installation are identical."""
    wheels = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        wheels.append(build_wheel(tmp_path / name).read_bytes())
    assert wheels[0] == wheels[1]


@pytest.mark.whole
def test_pip_installs_it(tmp_path: Path) -> None:
    """The wheel can be installed by pip, and the installed package builds the same wheel again."""
    wheel = build_wheel(tmp_path)
    target = tmp_path / "target"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        target,
        wheel,
    ]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "again").mkdir()
    script = (
        "import sys; from pathlib import Path; "
        "from pacifica_notifications_consumer.environment.wheel import build_wheel; "
        f"assert {str(target)!r} in sys.modules['pacifica_notifications_consumer'].__file__; "
        f"build_wheel(Path({str(tmp_path / 'again')!r}))"
    )
    environ = {"PYTHONPATH": str(target), "PATH": ""}
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, cwd=tmp_path)
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()
