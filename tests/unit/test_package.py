"""The public interface is small, and importing it is cheap."""

import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import pacifica_notifications_consumer
from tests.support.paths import ROOT

PACKAGE = "pacifica_notifications_consumer"
FOLDERS = [
    PACKAGE,
    *(
        each.name
        for each in pkgutil.walk_packages(pacifica_notifications_consumer.__path__, f"{PACKAGE}.")
        if each.ispkg
    ),
]


def loaded_by(code: str) -> set[str]:
    """The modules that an interpreter of its own loads when it runs some code."""
    script = (
        f"import __future__, importlib, json, sys; before = set(sys.modules); {code}; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    return set(json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout))


def test_public_names() -> None:
    """Exactly the documented names are public."""
    assert pacifica_notifications_consumer.__all__ == [
        "Filter",
        "JobRunner",
        "PacificaError",
        "Sandbox",
        "Services",
        "VenvBuilder",
        "download",
        "subscribed",
        "upload",
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_exports(folder: str) -> None:
    """The names that a folder exports are sorted, and each can be seen and loads, although it is not loaded before."""
    package = import_module(folder)
    assert list(package.__all__) == sorted(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert callable(getattr(package, name))


@pytest.mark.parametrize("folder", FOLDERS)
def test_sentence(folder: str) -> None:
    """A folder says in its docstring what it is for."""
    assert (import_module(folder).__doc__ or "").split("\n")[0].endswith(".")


def test_help_tells_what_to_use() -> None:
    """``help()`` of the package has a sentence on each name that it exports."""
    text = pacifica_notifications_consumer.__doc__ or ""
    assert [name for name in pacifica_notifications_consumer.__all__ if f"`{name}`" not in text] == []


def test_unknown_name() -> None:
    """A name that does not exist is an AttributeError, as in any module."""
    name = "nothing"
    with pytest.raises(AttributeError, match=f"module '{PACKAGE}' has no attribute 'nothing'"):
        getattr(pacifica_notifications_consumer, name)


def test_import_loads_nothing_else() -> None:
    """Importing all folders loads neither their modules nor the package's dependencies."""
    assert loaded_by(f"import {', '.join(FOLDERS)}") == {*FOLDERS, f"{PACKAGE}.exports"}


def test_module_loads_alone() -> None:
    """Importing a module of a folder loads no other module of that folder that it does not itself import."""
    assert f"{PACKAGE}.clients.base" not in loaded_by(f"import {PACKAGE}.clients.retry")


@pytest.mark.whole
def test_library_never_imports_the_runner() -> None:
    """Loading every public name loads no module of the runner."""
    loaded = loaded_by("; ".join(f"from {folder} import *" for folder in FOLDERS))
    assert f"{PACKAGE}.queue.job_runner" in loaded
    assert [name for name in loaded if name.startswith("pacifica_notifications_runner")] == []


def modules(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.py") if path.name != "__init__.py"]


def test_house_stays_small() -> None:
    """A folder has at most 12 modules, a module at most 400 lines, and the product at most 28,200."""
    lines: dict[Path, int] = {}
    for top in (ROOT / PACKAGE, ROOT / "runner", ROOT / "tests"):
        for folder in (top, *(path for path in top.rglob("*/") if path.is_dir())):
            assert len(modules(folder)) <= 12, folder
            lines |= {path: len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.py")}
    assert {path: count for path, count in lines.items() if count > 400} == {}
    product = {path: count for path, count in lines.items() if ROOT / "tests" not in path.parents}
    assert sum(product.values()) <= 28_200
    assert sum(count for path, count in product.items() if ROOT / "runner" in path.parents) <= 5_500
