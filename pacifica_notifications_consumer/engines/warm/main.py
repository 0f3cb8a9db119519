"""The main script of the warm process: ``python main.py CONTROL SCRIPT MODULES …``; `start` runs it.

The work is done in `process`. This file is as short as possible: entry-points are executed at its end, so it is the
only frame below them, and each child keeps all objects that the interpreter holds for the main script.
"""

# The initial namespace of a script, before this one adds names to it.
PRISTINE = dict(globals())

import sys  # noqa: E402

CONTROL, SCRIPT, MODULES = sys.argv[1:4]
# Before any other import: sys.path must begin with the entry-point's directory, not with the directory of this file.
HERE, sys.path[0] = sys.path[0], SCRIPT.rpartition("/")[0]

from importlib import import_module  # noqa: E402
from types import ModuleType  # noqa: E402

# A package with the files of this directory only: the environment may contain another version of this library, or none.
PACKAGE = sys.modules["pacifica_warm"] = ModuleType("pacifica_warm")
PACKAGE.__path__ = [HERE]
PROCESS = import_module("pacifica_warm.process")

CHILD = PROCESS.serve(CONTROL, SCRIPT, MODULES.split())
try:
    # Do not bind the namespace to a name here: it must be freed at the end of the script.
    exec(CHILD.code, PROCESS.make_main(SCRIPT, PRISTINE))  # noqa: S102
except BaseException as problem:
    CHILD.ending.note(problem)
    raise
CHILD.ending.note(None)
