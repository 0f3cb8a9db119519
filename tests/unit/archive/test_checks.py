"""Mistakes in a consumer's parts are found, with their place, and good consumers have no findings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pacifica_notifications_consumer.archive.checks import check_parts
from pacifica_notifications_consumer.archive.findings import finding_of
from pacifica_notifications_consumer.errors import RequirementError
from tests.unit.archive.checked import TEXT, consumer, expect

_ENDS_WITH = (
    "the function 'endsWith' does not exist; there are charAt(), entries(), keys(), length(), values() and substring()"
)
#: The files of a consumer that differ from a good one, and the expected findings: level, place, part of the problem.
PARTS: list[tuple[str, Mapping[str, str | bytes], list[tuple[str, str, str]]]] = [
    ("good", {"jsonpath2.txt": TEXT}, []),
    ("syntax", {"__main__.py": "import sys\nsys.argv\nif:\n"}, [("error", "__main__.py:3", "invalid syntax")]),
    ("return", {"__main__.py": "import sys\nsys.argv\nreturn\n"}, [("error", "__main__.py:3", "'return' outside")]),
    *(
        (f"encoding, {name}", {"__main__.py": content}, [("error", position, f"{words}; save it as UTF-8")])
        for name, content, position, words in (
            (
                "UTF-16",
                "import sys\nsys.argv\n".encode("utf-16"),
                "__main__.py:1",
                "byte 0 of the file is not text in utf-8",
            ),
            (
                "no mark",
                "import sys\nsys.argv\n".encode("utf-16-le"),
                "__main__.py:1",
                "byte 1 of the file is not text in utf-8",
            ),
            (
                "Latin 1",
                b"import sys\n\nsys.argv  # \xff\n",
                "__main__.py:3",
                "byte 24 of the file is not text in utf-8",
            ),
            ("declared", b"# coding: ascii\nimport sys\nsys.argv  # \xff\n", "__main__.py:3", "is not text in ascii"),
        )
    ),
    (
        "no encoding of text",
        {"__main__.py": "\n# coding: hex\nimport sys\nsys.argv\n"},
        [("error", "__main__.py:2", "'hex' is not a text encoding; correct it")],
    ),
    (
        "unknown encoding",
        {"__main__.py": "# coding: klingon\nimport sys\nsys.argv\n"},
        [("error", "__main__.py", "unknown encoding: klingon")],
    ),
    ("other", {"lib/util.py": "def\n"}, [("warning", "lib/util.py:1", "invalid syntax")]),
    (
        "arguments",
        {"__main__.py": "print(1)\n"},
        [("warning", "__main__.py", "does not seem to use its arguments")],
    ),
    ("arguments elsewhere", {"__main__.py": "import app\n", "app.py": "import sys\nsys.argv\n"}, []),
    ("filter", {"jsonpath2.txt": "$["}, [("error", "jsonpath2.txt", "cannot parse the JSONPath")]),
    ("lines", {"jsonpath2.txt": "$\n$\n"}, [("error", "jsonpath2.txt", "more than one line")]),
    ("shell", {"init.sh": b"exit 0\r\n"}, [("error", "init.sh", "the line endings of Windows")]),
    ("preload", {"preload.txt": "no-name"}, [("error", "preload.txt", "cannot be the name of a module")]),
    ("dead filter", {"jsonpath2.txt": "$.data[?(@.size > 1)]"}, [("warning", "jsonpath2.txt", "never match")]),
    (
        "contradiction",
        {"jsonpath2.txt": '$.data[*][?(@.name = "x" and @.name = "y")]'},
        [("error", "jsonpath2.txt", "never")],
    ),
    ("function", {"jsonpath2.txt": '$.data[*][?(@.name[endsWith(".csv")])]'}, [("error", "jsonpath2.txt", _ENDS_WITH)]),
    ("slip in a filter", {"jsonpath2.txt": "$.data[*][?(@.siez or @.key)]"}, [("warning", "jsonpath2.txt", '"size"?')]),
    ("step of zero", {"jsonpath2.txt": "$.data[::0]"}, [("error", "jsonpath2.txt", "a step of zero")]),
    (
        "tables in Python",
        {
            "__main__.py": "import sys\nfrom pacifica_notifications_consumer import upload\nupload(sys.argv[2], {\n"
            "  'Transactions.proposal': 1, 'Transactions.submitter': 2}, {'Tag': 'Transactions of a day'})\n",
            "unused.py": "'Transactions.proposal'\n",
        },
        [("warning", "__main__.py:4", 'no destinationTable "Transactions.proposal"; Pacifica of 2019')],
    ),
    *(
        (text, {"__main__.py": f"import sys\nsys.argv\n{text}\n"}, [("warning", "__main__.py:3", 'mean "Files"?')])
        for text in (
            """Path.parse_str('$.data[*][?(@["destinationTable"] = "File")]')""",
            r"""Path.parse_str("$.data[*][?(@[\"destinationTable\"] = \"File\")]")""",
            """[row for row in rows if row["destinationTable"] == "File"]""",
            """[row for row in rows if row.get('destinationTable') != 'File']""",
        )
    ),
    # Modules beside the entry-point.
    (
        "relative",
        {"__main__.py": "import sys\nsys.argv\nfrom .helper import f\n", "helper.py": "def f(): ...\n"},
        [
            (
                "error",
                "__main__.py:3",
                "relative to a package, and __main__.py runs outside of one; write `from helper",
            )
        ],
    ),
    (
        "relative, of the folder",
        {"__main__.py": "import sys\nsys.argv\nfrom . import helper\n", "helper.py": ""},
        [("error", "__main__.py:3", "write `import helper`")],
    ),
    (
        "relative, in a module beside it",
        {"__main__.py": "import sys, util\nsys.argv\n", "util.py": "from .helper import f\n", "helper.py": "f = 1\n"},
        [("error", "util.py:1", "relative to a package")],
    ),
    (
        "relative, in packages",
        {
            "__main__.py": "import sys, lib.sub.more\nsys.argv\n",
            "lib/__init__.py": "from .sub import *\n",
            "lib/sub/__init__.py": "",
            "lib/sub/more.py": "from ..other import x\nfrom . import there\n",
            "lib/sub/there.py": "",
            "lib/other.py": "x = 1\n",
        },
        [],
    ),
    (
        "relative, handled",
        {
            "__main__.py": "import sys\nsys.argv\ntry:\n    from .helper import f\nexcept ImportError:\n"
            "    from helper import f\n",
            "helper.py": "f = 1\n",
        },
        [],
    ),
    *(
        (
            statement,
            {"__main__.py": f"import sys\nsys.argv\n{statement}\n", "analysis/__init__.py": "x = 1\n", "util.py": ""},
            [("error", "__main__.py:3", words)],
        )
        for statement, words in (
            ("import analysis.fit", "imports analysis.fit, but the consumer's analysis has no fit"),
            ("from analysis.fit import line", "imports analysis.fit, but the consumer's analysis has no fit"),
            ("from analysis import fit", "imports fit from analysis, but the consumer's analysis has no fit"),
            ("import util.more", "imports util.more, but the consumer's util has no more"),
            ("from util import weigh", "imports weigh from util, but the consumer's util has no weigh"),
        )
    ),
    (
        "relative, missing",
        {
            "__main__.py": "import sys, lib\nsys.argv\n",
            "lib/__init__.py": "from . import there\nfrom .nosuch import x\n",
            "lib/there.py": "",
        },
        [("error", "lib/__init__.py:2", "imports lib.nosuch, but the consumer's lib has no nosuch")],
    ),
    (
        "names that modules make",
        {
            "__main__.py": "import sys\nfrom lazy import anything\nfrom star import getcwd\nfrom lazy import __doc__\n",
            "lazy.py": "sys.argv\nimport made.inside\ndef __getattr__(name): ...\n",
            "made/__init__.py": "import sys\nsys.modules[__name__ + '.inside'] = sys\n",
            "star.py": "from os import *\n",
        },
        [],
    ),
    (
        "syntax of a module that it imports",
        {"__main__.py": "import sys, util\nsys.argv\n", "util.py": "def\n"},
        [("error", "util.py:1", "invalid syntax")],
    ),
    (
        "standard library",
        {"random.py": "", "queue/__init__.py": "", "email/notes.txt": ""},
        [
            ("warning", "queue/", "a module of the standard library"),
            ("warning", "random.py", "importing random may find the wrong one"),
        ],
    ),
    # Parts that are not found under their names.
    *(
        (f"misnamed {name}", {name: ""}, [("warning", name, f"the name must be {part}")])
        for name, part in (
            ("Requirements.txt", "requirements.txt"),
            ("requirement.txt", "requirements.txt"),
            ("requirements.txt.txt", "requirements.txt"),
            ("requirements", "requirements.txt"),
            ("JSONPath2.txt", "jsonpath2.txt"),
            ("jsonpath2.txt.txt", "jsonpath2.txt"),
            ("jsonpath.txt", "jsonpath2.txt"),
            ("json-path2.txt", "jsonpath2.txt"),
            ("init.sh.txt", "init.sh"),
            ("INIT.SH", "init.sh"),
            ("init.bash", "init.sh"),
            ("requirements.in", "requirements.txt"),
            ("venv_ignore.txt", "venv-ignore.txt"),
            (".venvignore", "venv-ignore.txt"),
            ("Preload.txt", "preload.txt"),
        )
    ),
    (
        "misnamed with a space",
        {"jsonpath2.txt ": ""},
        [("warning", "'jsonpath2.txt '", "the name must be jsonpath2.txt")],
    ),
    (
        "other names",
        dict.fromkeys(
            (
                "requirements-dev.txt",
                "preload.py",
                "__init__.py",
                "main.py",
                "readme.txt",
                "lib/Init.sh",
            ),
            "",
        ),
        [],
    ),
    ("another spelling beside the part", {"Requirements.txt": "", "requirements.txt": ""}, []),
    (
        "several",
        {"jsonpath2.txt": "", "init.sh": b"\r\n", "__main__.py": "if"},
        [
            ("error", "jsonpath2.txt", "is empty"),
            ("error", "init.sh", "the line endings of Windows"),
            ("error", "__main__.py:1", "invalid syntax"),
            ("warning", "__main__.py", "does not seem to use its arguments"),
        ],
    ),
]


@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in PARTS], ids=[row[0] for row in PARTS])
def test_parts(tmp_path: Path, files: Mapping[str, str | bytes], expected: list[tuple[str, str, str]]) -> None:
    """Each part is checked by itself, so that all mistakes are found at once."""
    expect(check_parts(consumer(tmp_path, files)), expected)


def test_position_in_a_message() -> None:
    """A finding has the file and the line that an error begins with once, as its position."""
    for problem, position in (("r.txt:3: it is odd", "r.txt:3"), ("r.txt: it is odd", "r.txt"), ("it is odd", "r.txt")):
        finding = finding_of(RequirementError(problem, "see\nbelow"), "r.txt")
        assert (finding.position, finding.problem) == (position, "it is odd")


def test_special_files(tmp_path: Path) -> None:
    """Named pipes are reported, and not opened, and a folder may be called like a module."""
    consumer(tmp_path, {"__main__.py": "import sys, pipe, folder\nsys.argv\n", "folder.py/data.txt": ""})
    for name in ("pipe.py", "folder.py/other.py", "init.sh"):
        os.mkfifo(tmp_path / name)
    expect(
        check_parts(tmp_path),
        [
            ("error", "init.sh", "init.sh is a named pipe; replace it with a file, or remove it"),
            ("warning", "folder.py/other.py", "it is not a regular file"),
            ("warning", "pipe.py", "it is not a regular file"),
        ],
    )
