"""The names of packages: which one a module comes from, and which one a misspelt requirement means."""

from __future__ import annotations

import difflib
import itertools
import re
import sys
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

from ..system.files import read_regular
from .wheel import DISTRIBUTION

#: The requirements of commonly used modules whose names differ.
REQUIREMENT_OF = {
    "Bio": "biopython",
    "OpenSSL": "pyOpenSSL",
    "PIL": "Pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "magic": "python-magic",
    "netCDF4": "netCDF4",
    "pacifica": "pacifica-uploader or pacifica-downloader",
    "pacifica_notifications_consumer": "pacifica-notifications-consumer",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
_IMPORT = re.compile(rb"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w{,99})\b", re.MULTILINE)
_MOST = 100  #: files that are read for a suggestion, and different modules in each


def imported(directory: Path) -> set[str]:
    """The modules of other packages that a consumer seems to import; a guess, which suffices for a suggestion."""
    modules = set[str]()
    paths = (path for pattern in ("*.py", "*/*.py") for path in directory.glob(pattern))
    for path in itertools.islice(paths, _MOST):
        found = {name.decode() for name in _IMPORT.findall(read_regular(path, b""))} - sys.stdlib_module_names
        modules.update(itertools.islice(found, _MOST))
    return {name for name in modules if not any((directory / local).exists() for local in (name, f"{name}.py"))}


def meant(requirement: str, modules: Iterable[str] = ()) -> str:
    """The package that an unknown requirement means: a common one, or that of one of these modules; empty if none."""
    name = _normal(requirement)
    needed = (REQUIREMENT_OF.get(module, module) for module in modules)
    known = {_normal(each): each for each in (DISTRIBUTION, *REQUIREMENT_OF.values(), *needed)}
    known |= {each: each for each in map(_normal, requires(DISTRIBUTION) or ())}
    known |= {_normal(module): package for module, package in REQUIREMENT_OF.items()}
    close = difflib.get_close_matches(name, known, n=1)
    return known[close[0]] if close and _normal(known[close[0]]) != name else ""


def _normal(requirement: str) -> str:
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()
