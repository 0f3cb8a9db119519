"""The public interface is small, and importing it is cheap."""

import subprocess
import sys

import pytest

import pacifica_notifications_consumer


def test_public_names() -> None:
    """Exactly the documented names are public, and each of them loads."""
    assert pacifica_notifications_consumer.__all__ == ["Filter", "JobRunner", "VenvBuilder", "download", "upload"]
    for name in pacifica_notifications_consumer.__all__:
        assert callable(getattr(pacifica_notifications_consumer, name))
        assert name in dir(pacifica_notifications_consumer)


def test_unknown_name() -> None:
    """A name that does not exist is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pacifica_notifications_consumer.nothing


def test_import_loads_nothing_else() -> None:
    """Importing the package loads neither its dependencies nor its own modules."""
    script = (
        "import __future__, importlib, sys; before = set(sys.modules); import pacifica_notifications_consumer; "
        "print(*sorted(set(sys.modules) - before))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["pacifica_notifications_consumer"]


def test_library_never_imports_the_runner() -> None:
    """Loading every public name loads no module of the runner."""
    script = (
        "import sys; import pacifica_notifications_consumer as p; [getattr(p, name) for name in p.__all__]; "
        "import pacifica_notifications_consumer.testing.sandbox; "
        "print([name for name in sys.modules if 'runner' in name and name.startswith('pacifica_notifications_runner')])"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"
