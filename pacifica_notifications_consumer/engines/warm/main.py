"""The warm process's main script: ``python main.py CONTROL SCRIPT MODULES …``; `warm.start` runs it.

What it does stands in `process`. This file is as short as can be: entry-points are executed at its bottom, so that
it is the one frame below them, and what the interpreter keeps of a main script, it keeps in every child.
"""

# What a script finds in its namespace, before this one adds to it.
PRISTINE = dict(globals())

import sys  # noqa: E402

CONTROL, SCRIPT, MODULES = sys.argv[1:4]
# First of all: this library's directory must not be where `import json` looks. The entry-point's is, as it would be.
HERE, sys.path[0] = sys.path[0], SCRIPT.rpartition("/")[0]

from importlib import import_module  # noqa: E402
from types import ModuleType  # noqa: E402

# A package of these few files alone: the environment may have none of ours, or another version.
PACKAGE = sys.modules["pacifica_warm"] = ModuleType("pacifica_warm")
PACKAGE.__path__ = [HERE]
PROCESS = import_module("pacifica_warm.process")

CHILD = PROCESS.serve(CONTROL, SCRIPT, MODULES.split())
try:
    # Not even under a name of ours may its namespace be held: it ends with the script.
    exec(CHILD.code, PROCESS.make_main(SCRIPT, PRISTINE))  # noqa: S102
except BaseException as problem:
    CHILD.ending.note(problem)
    raise
CHILD.ending.note(None)
