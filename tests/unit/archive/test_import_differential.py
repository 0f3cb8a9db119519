"""Whether an import is called an error is compared with what really happens when Python executes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pacifica_notifications_consumer.archive.archive import Consumer
from pacifica_notifications_consumer.archive.checks import check_parts
from pacifica_notifications_consumer.archive.import_checks import check_imports
from pacifica_notifications_consumer.environment.venv import Venv
from tests.unit.archive.checked import consumer

_TRY = "try:\n    import nowhere\nexcept ImportError:\n    "
#: Programs that end well although they import what is not there. Those without a warning are marked.
RUN = {
    "suppress by another name": "from contextlib import suppress as s\nwith s(ImportError):\n    import nowhere",
    "contextlib by another name": "import contextlib as c\nwith c.suppress(ImportError):\n    import nowhere",
    "- while False": "while False:\n    import nowhere",
    "- else of True": "if True:\n    pass\nelse:\n    import nowhere",
    "- not True": "if not True or 0:\n    import nowhere",
    "a loop that may not begin": "import sys\nwhile len(sys.argv) > 9:\n    import nowhere",
    "- platform": "import sys\nif sys.platform == 'win32':\n    import winreg, nowhere",
    "- beginning of the platform": "import sys\nif sys.platform.startswith(('win', 'cygwin')):\n    import nowhere",
    "- platforms": "import sys\nif sys.platform in ('win32', 'cygwin'):\n    import nowhere",
    "- platform and more": "import sys\nif sys.argv and sys.platform == 'win32':\n    import nowhere",
    "- other platforms": "import os\nif not os.name == 'nt':\n    pass\nelse:\n    import nowhere",
    "- system": "import platform\nif platform.system() == 'Windows':\n    import nowhere",
    "- older Python": "import sys\nif sys.version_info[0] == 2 or sys.version_info < (3, 8):\n    import nowhere",
    "- slice of the version": "import sys\nif sys.version_info[:2] >= (3, 8):\n    pass\nelse:\n    import nowhere",
    "- module of another system": "try:\n    import winreg\nexcept ImportError:\n    winreg = None",
    "- name of another Python": "try:\n    from typing import nosuch\nexcept ImportError:\n    nosuch = None",
    "may raise": _TRY + "if len(__name__) > 99:\n        raise",
    "alternative that may raise": _TRY + "try:\n        import json\n    except ImportError:\n        sys.exit('no')",
    "ends as a success": "import sys\n" + _TRY + "sys.exit(0)",
    "ends as a success, by an exception": _TRY + "raise SystemExit",
    "another error is passed on": "class Our(Exception): ...\ntry:\n    import nowhere\nexcept Our:\n    raise\n"
    "except ImportError:\n    pass",
    "third alternative": _TRY + "try:\n        import json\n    except ImportError:\n        import nowhere2",
    "when something fails": "try:\n    x = {}\nexcept KeyError:\n    import nowhere",
    "when anything fails": "try:\n    x = {}\nexcept Exception:\n    import nowhere",
    "call whose failure is handled": "try:\n    __import__('nowhere')\nexcept ImportError:\n    pass",
    "call under a condition": "import importlib\nx = importlib.import_module('nowhere') if __name__ == 'x' else 0",
    "- calls that succeed": "import importlib as i\nfrom importlib import import_module as f\n"
    "__import__('json.decoder'), f('.decoder', 'json'), f('json'), i.import_module('helper')",
    "- a function of its own": "def import_module(name): ...\nimport_module('nowhere')",
    "- names of the standard library": "from os import getcwd, O_RDONLY, path\nfrom os.path import join\n"
    "from socket import AF_INET\nfrom signal import SIGINT\nfrom math import pi\nfrom sys import argv, __name__\n"
    "from concurrent.futures import ThreadPoolExecutor\nfrom xml.etree import ElementTree\nfrom json import *",
    "- part of a program": "import helper",
    "- names that a module has": "from helper import weigh, shared, Scale, path, load",
    **{
        f"- made by {statement}": f"import sys, types\nname = 'made'\n{statement}\nimport made"
        for statement in (
            "sys.modules['made'] = types.ModuleType('made')",
            "sys.modules[name] = types.ModuleType(name)",
            "sys.modules['ma' + 'de'] = types.ModuleType(name)",
            "sys.modules.setdefault('made', types.ModuleType('made'))",
            "sys.modules.update(made=types)",
            "from sys import modules; modules['made'] = types",
        )
    },
    "- made in a package": "import sys\nsys.modules['json.made'] = sys\nimport json.made",
    "- made by a finder": "import importlib.machinery, sys\nclass Finder:\n"
    "    def find_spec(name, *_):\n        if name == 'found':\n"
    "            return importlib.machinery.ModuleSpec(name, Finder)\n"
    "    def create_module(spec): ...\n    def exec_module(module): ...\n"
    "sys.meta_path.append(Finder)\nimport found",
    "- condition that is nested deeply": f"if 0 and ({'+'.join('1' * 400)}):\n    import json",
}  # fmt: skip
#: Programs that end as a failure.
FAIL = {
    "suppress another error": "from contextlib import suppress as s\nwith s(KeyError):\n    import nowhere",
    "open": "with open(__file__) as file:\n    import nowhere",
    "loop": "while True:\n    import nowhere\n    break",
    "not for types": "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import nowhere",
    "this version": "import sys\nif sys.version_info >= (3, 8):\n    import nowhere",
    "this platform": f"import sys\nif sys.platform == {sys.platform!r}:\n    import nowhere",
    "as a program": "if '__main__' == __name__:\n    import nowhere",
    "raise": _TRY + "raise",
    "raise another": _TRY.replace("ImportError", "ImportError as error") + "raise RuntimeError('no') from error",
    "exit with a text": "import sys\n" + _TRY + "print('no')\n    sys.exit('install it')",
    "exit with a status": _TRY + "exit(1)",
    "exit by an exception": _TRY + "raise SystemExit(3)",
    "first handler raises": _TRY.replace("Import", "ModuleNotFound") + "raise\nexcept Exception:\n    pass",
    "alternative, then raise": _TRY + "import json\n    raise",
    "no alternative is there": _TRY + "try:\n        import nowhere2\n    except ImportError:\n        raise",
    "alternative for a name": "try:\n    from typing import nosuch\nexcept ImportError:\n    from nowhere import x",
    "another module is made": "import sys\nsys.modules['made'] = sys\nimport nowhere",
    "modules are read": "import sys\nprint('nowhere' in sys.modules, sys.modules['sys'])\nimport nowhere",
    "its module is replaced": "import sys\nsys.modules[__name__] = sys.modules[__name__]\nimport nowhere",
    "frozen": "from os import nosuch",
    "built in": "from sys import nosuch",
    "compiled": "from math import nosuch",
    "by another name": "from os.path import nosuch",
    "dynamic": "from socket import nosuch",
    "of a package": "from concurrent.futures import nosuch",
    "removed": "from collections import Mapping",
    "call": "import importlib\nimportlib.import_module('nowhere')",
    "call of a function": "from importlib import import_module as load\nx = [load('nowhere')]",
    "call in a condition": "if __import__('nowhere'):\n    pass",
    "call, of a module beside it": "import importlib\nimportlib.import_module('helper.nosuch')",
    "name that only a comment has": "from helper import commented",
    "name that only a text has": "from helper import written",
    "name that only a function has": "from helper import local",
}
HELPER = '''"""Has commented."""
import os.path as path, sys  # commented
texts = ["written", sys.argv[0]]
shared: int
if __name__ == "__main__":
    import nowhere
def weigh():
    global shared, load
    local = shared = load = 1
weigh()
class Scale: ...
'''


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """Whether each program ends well, of which all run in one start of Python."""
    directory = consumer(tmp_path_factory.mktemp("programs"), {"helper.py": HELPER})
    (directory / "programs.json").write_text(json.dumps({**RUN, **FAIL}))
    (directory / "__main__.py").write_text(
        "import json, pathlib, runpy, sys\n"
        "for name, program in json.loads(pathlib.Path(sys.path[0], 'programs.json').read_text()).items():\n"
        "    path = pathlib.Path(sys.path[0], 'program.py')\n    path.write_text(program)\n    good = True\n"
        "    try:\n        runpy.run_path(path, run_name='__main__')\n"
        "    except SystemExit as error:\n        good = not error.code\n"
        "    except BaseException:\n        good = False\n"
        "    print('\\n' + json.dumps([name, good]))\n"
    )
    finished = subprocess.run([sys.executable, directory], check=True, capture_output=True, text=True)
    return dict(json.loads(line) for line in finished.stdout.splitlines() if line.startswith("["))


@pytest.mark.sampled
@pytest.mark.parametrize("name", [*RUN, *FAIL])
def test_only_what_ends_the_program_is_an_error(tmp_path: Path, ends: dict[str, bool], name: str) -> None:
    """An error is found in a program if Python cannot run it, and a warning where it may be executed elsewhere."""
    program = {**RUN, **FAIL}[name]
    directory = consumer(tmp_path, {"__main__.py": f"{program}\n__import__('sys').argv\n", "helper.py": HELPER})
    found = [*check_parts(directory), *check_imports(Consumer.load(directory), Venv(Path(sys.prefix)))]
    levels = {finding.level.value for finding in found}
    assert ("error" not in levels, name in RUN) == (ends[name], ends[name]), found
    assert bool(levels) == (not name.startswith("- ")), found


def test_conditions_are_not_executed(tmp_path: Path) -> None:
    """Only conditions on the system and on Python's version are evaluated, and none that could do or take anything."""
    ran = tmp_path / "ran"
    conditions = (
        f"os.system('touch {ran}')",
        f"sys.platform == 'x' or [open({str(ran)!r}, 'w') for os in 'x']",
        f"(lambda: open({str(ran)!r}, 'w'))()",
        f"__import__('os').mkdir({str(ran)!r})",
        "sys.platform == 'x' * 99999999999999",
        "sys.version_info[0] == 1 << 99999999999999",
        "sys.version_info[0] == 9**9**9**9",
        "f'{sys.platform:>99999999999}'",
    )
    program = "import os, sys\nsys.argv\n" + "".join(f"if {test}:\n    import nowhere\n" for test in conditions)
    assert list(check_parts(consumer(tmp_path / "consumer", {"__main__.py": program}))) == []
    assert not ran.exists()
