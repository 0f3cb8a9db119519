"""Imports that would fail are found, by the Python that runs the consumer, and others are not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pacifica_notifications_consumer.archive.archive import Consumer
from pacifica_notifications_consumer.archive.checks import check_parts
from pacifica_notifications_consumer.archive.import_checks import check_imports
from pacifica_notifications_consumer.environment.interpreter import Interpreter
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.errors import ConfigurationError
from tests.unit.archive.checked import CONSUMER, consumer, expect

_GUARDED = ("warning", "__main__.py:3", "imports nowhere")
_REQUIRED = ("error", "__main__.py:2", "imports nowhere")
IMPORTS: list[tuple[str, Mapping[str, str], list[tuple[str, str, str]]]] = [
    ("standard library", {"__main__.py": "import os.path, json\nfrom xml.dom import minidom\n"}, []),
    ("ours", {"__main__.py": CONSUMER}, []),
    ("beside it", {"__main__.py": "import util\nfrom lib.more import x\n", "util.py": "", "lib/more.py": "x = 1"}, []),
    (
        "missing",
        {"__main__.py": "import sys\nimport nowhere_to_be_found\n"},
        [
            (
                "error",
                "__main__.py:2",
                "nowhere_to_be_found, which no requirement installs; write a requirements.txt",
            )
        ],
    ),
    (
        "other name",
        {"__main__.py": "def work():\n    from skimage import io\n", "requirements.txt": "numpy\n"},
        [("error", "__main__.py:2", "add scikit-image to requirements.txt")],
    ),
    (
        "slip",
        {"__main__.py": "import pandsa\n", "requirements.txt": "pandas\n"},
        [("error", "__main__.py:1", "did you mean pandas?")],
    ),
    (
        "optional",
        {"__main__.py": "try:\n    import nowhere\nexcept ImportError:\n    nowhere = None\n"},
        [("warning", "__main__.py:2", "imports nowhere")],
    ),
    (
        "of a module beside it",
        {"__main__.py": "import util\n", "util.py": "\n\nimport nowhere\n"},
        [("error", "util.py:3", "imports nowhere")],
    ),
    ("for types", {"__main__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nowhere\n"}, []),
    ("module that nobody imports", {"unused.py": "import nowhere\n"}, []),
    ("never", {"__main__.py": "if False:\n    import nowhere\nif 0:\n    import nowhere\nelse:\n    import os\n"}, []),
    ("by arguments", {"__main__.py": "import sys\nif '--plot' in sys.argv:\n    import nowhere\n"}, [_GUARDED]),
    ("run as a program", {"__main__.py": "if __name__ == '__main__':\n    import nowhere\n"}, [_REQUIRED]),
    ("preload", {"preload.txt": "nowhere json\n"}, [("warning", "preload.txt", "names the module nowhere")]),
    # Code that the program finds for itself.
    (
        "vendored",
        {
            "__main__.py": "import sys, os\nsys.path.insert(0, os.path.join(sys.path[0], 'lib/more'))\n"
            "import lab, single\nfrom lab.tools import weigh\n",
            "lib/more/lab/__init__.py": "from . import tools\nfrom .tools import weigh\n",
            "lib/more/lab/tools.py": "import single\ndef weigh(): ...\n",
            "lib/more/single.py": "",
        },
        [],
    ),
    ("path of os", {"__main__.py": "from os import path\nimport nowhere\n"}, [_REQUIRED]),
    (
        "vendored elsewhere",
        {"__main__.py": "import site\nsite.addsitedir('/opt/lab')\nimport nowhere\n"},
        [("warning", "__main__.py:3", "imports nowhere")],
    ),
    # Imports whose failure the program handles, or that it may not execute.
    *(
        (test, {"__main__.py": f"import sys, os\nif {test}:\n    import nowhere\n"}, [_GUARDED])
        for test in ("os.environ.get('PLOT')", "sys.platform == os.environ.get('X')", "hasattr(os, 'fork') or 0")
    ),
    (
        "match",
        {"__main__.py": "import sys\nmatch sys.platform:\n    case 'win32':\n        import nowhere\n"},
        [("warning", "__main__.py:4", "imports nowhere")],
    ),
    *(
        (f"with {call}", {"__main__.py": f"{head}\nwith {call}:\n    import nowhere\n"}, [_GUARDED])
        for head, call in (
            ("import contextlib", "contextlib.suppress(ImportError)"),
            ("from contextlib import suppress", "suppress(AttributeError, ModuleNotFoundError)"),
            ("import contextlib", "open('x') as x, contextlib.suppress(Exception)"),
        )
    ),
    *(
        (f"except{kind}", {"__main__.py": f"x = 1\ntry:\n    import nowhere\nexcept{kind}:\n    pass\n"}, [_GUARDED])
        for kind in ("", " Exception", " BaseException", " (ValueError, ImportError)", "* ImportError", " MISSING")
    ),
    (
        "handles another error",
        {"__main__.py": "x = 1\ntry:\n    import nowhere\nexcept ValueError:\n    pass\n"},
        [("error", "__main__.py:3", "imports nowhere")],
    ),
    (
        "of a module whose failure is handled",
        {"__main__.py": "try:\n    import util\nexcept ImportError:\n    pass\n", "util.py": "import nowhere\n"},
        [("warning", "util.py:1", "imports nowhere")],
    ),
    (
        "handled here, required there",
        {"__main__.py": "try:\n    import nowhere\nexcept ImportError:\n    pass\nimport nowhere\n"},
        [("error", "__main__.py:5", "imports nowhere")],
    ),
    ("alternative", {"__main__.py": "try:\n    import tomllib\nexcept ImportError:\n    import nowhere\n"}, []),
    (
        "neither alternative",
        {"__main__.py": "try:\n    import nowhere1\nexcept ImportError:\n    import nowhere2\n"},
        [("error", "__main__.py:4", "imports nowhere2"), ("warning", "__main__.py:2", "imports nowhere1")],
    ),
    ("main only", {"__main__.py": "if __name__ == '__main__':\n    import nowhere\n"}, [_REQUIRED]),
    # Modules that are not in a package that is there.
    ("submodule", {"__main__.py": "import requests.adapters, os.path, concurrent.futures, xml.etree.ElementTree"}, []),
    ("without a file", {"__main__.py": "import requests.packages.urllib3\nfrom requests import codes, get\n"}, []),
    *(
        (
            statement,
            {"__main__.py": f"{statement}\n"},
            [("error", "__main__.py:1", f"imports {name}, which {top}")],
        )
        for statement, name, top in (
            ("import requests.nosuch", "requests.nosuch", "requests"),
            ("from requests.nosuch.more import x", "requests.nosuch.more", "requests"),
            ("from requests import nosuch", "requests.nosuch", "requests"),
            ("import requests.nosuch as r", "requests.nosuch", "requests"),
            ("import json.nosuch", "json.nosuch", "this Python 3."),
            ("from email.mime import nosuch", "email.mime.nosuch", "this Python 3."),
        )
    ),
    (
        "folder without __init__.py",
        {"__main__.py": "import analysis.fit\n", "analysis/other.py": ""},
        [("error", "__main__.py:1", "imports analysis.fit")],
    ),
    (
        "standard library of another system",
        {"__main__.py": "import winreg\n"},
        [("error", "__main__.py:1", "which this Python 3.")],
    ),
    ("installed package", {"requests.py": ""}, [("warning", "requests.py", "the name of a module of an installed")]),
    (
        "installed package, as folder",
        {"attr/__init__.py": ""},
        [("warning", "attr/", "the name of a module of an ins")],
    ),
    ("vendored on purpose", {"attr/__init__.py": "", "attr-1.dist-info/RECORD": ""}, []),
]


@pytest.mark.sampled
@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in IMPORTS], ids=[row[0] for row in IMPORTS])
def test_imports(tmp_path: Path, files: Mapping[str, str], expected: list[tuple[str, str, str]]) -> None:
    """An import that the environment lacks is found with its line, without running the modules."""
    expect(check_imports(Consumer.load(consumer(tmp_path, files)), Venv(Path(sys.prefix))), expected)


#: Statements that only newer or only older Pythons can run, with the first or last version.
GRAMMAR = {"type Number = int": (3, 12), "x = f'{sys.argv['a']}'": (3, 12), "x = t'{sys}'": (3, 14)}
REMOVED = {"asyncore": (3, 11), "imp": (3, 11), "telnetlib": (3, 12)}
ADDED = {"annotationlib": (3, 14), "compression.zstd": (3, 14)}


def other_pythons() -> list[str]:
    """The other Pythons of this machine that a consumer could run in."""
    found = {shutil.which(f"python3.{minor}") for minor in range(11, 16)}
    found |= set(map(str, Path(sys.base_prefix).parent.glob("3.1[1-5].*/bin/python3")))
    return [
        each
        for each in found
        if each and subprocess.run([each, "-c", ""], check=False, capture_output=True).returncode == 0
    ]


def test_python_of_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    Path("python").chmod(0o755)
    directory = consumer(tmp_path / "consumer", {"__main__.py": "import sys\nsys.argv\n"})
    assert list(check_parts(directory, "./python")) == []


@pytest.mark.whole
def test_the_python_that_runs_it_counts(tmp_path: Path) -> None:
    """Grammar and modules are those of the interpreter that is given, not of the one that checks."""
    files = {f"{number}.py": f"import sys\n{statement}\n" for number, statement in enumerate(GRAMMAR)}
    modules = {**REMOVED, **ADDED}
    main = "import sys\nsys.argv\n" + "".join(f"import {module}\n" for module in modules)
    directory = consumer(tmp_path / "consumer", {"__main__.py": main, **files})
    for python in (sys.executable, *other_pythons()):
        version = Interpreter.probe(python).version
        number = tuple(map(int, version.split(".")[:2]))
        expected = {f"{file}.py:2" for file, first in enumerate(GRAMMAR.values()) if number < first}
        assert {each.position for each in check_parts(directory, python)} == expected, version

        subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / version], check=True)
        missing = [module for module, last in REMOVED.items() if number > last]
        missing += [module.partition(".")[0] for module, first in ADDED.items() if number < first]
        found = list(check_imports(Consumer.load(directory), Venv(tmp_path / version)))
        assert {each.problem.split()[2].rstrip(",") for each in found} == set(missing), version
        assert all(f"this Python {number[0]}.{number[1]} does not have" in each.problem for each in found), version
        newer = {each.problem.split()[2].rstrip(",") for each in found if "to 3.14 or later" in each.advice}
        assert newer == {module.partition(".")[0] for module, first in ADDED.items() if number < first}


@pytest.mark.parametrize(
    ("statement", "files", "missing"),
    [
        ("import analysis.fit", ("analysis/other.py",), "analysis.fit"),
        ("import analysis.fit.deep", ("analysis/fit/data.txt",), "analysis.fit.deep"),
        ("from analysis.fit.deep import x", ("analysis/fit/data.txt", "analysis/other.py"), "analysis.fit.deep"),
    ],
)
def test_missing_part_of_a_folder(tmp_path: Path, statement: str, files: Sequence[str], missing: str) -> None:
    """A folder of the consumer has no version."""
    main = {"__main__.py": f"{statement}\nimport nowhere, sys\nsys.argv\n"}
    directory = consumer(tmp_path / "consumer", main | dict.fromkeys(files, ""))
    found, _ = sorted(check_imports(Consumer.load(directory), Venv(Path(sys.prefix))), key=lambda each: each.position)
    assert (found.problem, found.advice) == (f"it imports {missing}, which analysis does not have", "correct the name")


def test_missing_module_of_a_package_with_attributes_of_its_own(tmp_path: Path) -> None:
    """`__getattr__` makes names that can be imported from a package, but no modules in it."""
    package = {"analysis/__init__.py": "def __getattr__(name): return 1\n"}
    for main, errors in (
        ("from analysis import fit", 0),
        ("from analysis.fit import x", 1),
        ("import analysis.fit", 1),
    ):
        files = {"__main__.py": f"{main}\nimport sys\nsys.argv\n", **package}
        directory = consumer(tmp_path / main, files)
        assert [each.level.value for each in check_parts(directory)] == ["error"] * errors, main


def test_modules_in_newer_packages(tmp_path: Path) -> None:
    """A newer Python is advised for a module that an older one lacks in a package that it has."""
    main = "import string.templatelib, concurrent.interpreters, string.nosuch, sys\nsys.argv\n"
    directory = consumer(tmp_path / "consumer", {"__main__.py": main})
    advice = {
        each.problem.split()[2]: each.advice for each in check_imports(Consumer.load(directory), Venv(Path(sys.prefix)))
    }
    newer = "correct the name, or set `python` to 3.14 or later"
    expected = (
        dict.fromkeys(("string.templatelib,", "concurrent.interpreters,"), newer) if sys.version_info < (3, 14) else {}
    )
    assert advice == expected | {"string.nosuch,": "correct the name, or set `python`"}


def test_an_unusable_python_is_named(tmp_path: Path) -> None:
    """The setting is to be corrected."""
    with pytest.raises(ConfigurationError, match="no-such-python is not a usable Python"):
        list(check_parts(consumer(tmp_path, {}), "no-such-python"))


def test_an_import_that_ends_the_interpreter(tmp_path: Path) -> None:
    """If a package that seems to be incomplete ends the interpreter, that is told, and nothing else fails."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    venv = Venv(tmp_path / "venv")
    (venv.site_packages / "fatal.py").write_text("import os\nprint('gone', flush=True)\nos._exit(3)\n")
    directory = consumer(tmp_path / "consumer", {"__main__.py": "import fatal.more\n"})
    (finding,) = check_imports(Consumer.load(directory), venv)
    assert (finding.level.value, "is not known: CalledProcessError" in finding.problem) == ("warning", True)
