"""Reads a consumer's modules without running them: their syntax errors, and what they import.

The file is run in the interpreter that is to run the consumer, whose grammar and modules count, see `import_checks`.
So it imports the standard library only.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import platform
import re
import symtable
import sys
import tokenize
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

#: What lets a module have names that its source does not contain.
_DYNAMIC = re.compile(
    r"import \*|__getattr__|__path__|__dict__|(globals|locals|vars|setattr|exec|import_module|_getframe)\(|sys\.modules"
)
#: What lets a package have modules that are not among its files.
_MAKES_MODULES = re.compile(r"__path__|(exec|import_module)\(|sys\.modules")
_PATHS = re.compile(rb"sys\.path\b|from sys import .*\bpath\b|addsitedir")
#: Code that makes a module; the group is its name, if that is certain.
_MADE = re.compile(
    r"from sys import .*\b(?:modules|meta_path)|sys\.(?:meta_path|path_hooks|modules(?:\.update|\.setdefault\(|"
    r"""\[(?!__name__\])(?=[^]]+\]\s*=[^=]))\s*(?:["']([\w.]+)["']\s*[],])?)"""
)
_CATCHING = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")
_GIVES_UP = re.compile(r"raise\b(?! SystemExit(\((0|None)?\))?$)|((sys\.|os\._)?exit|quit)\((?!(0|None)?\))")
#: What a condition may name whose value never changes.
_FACTS = {"sys", "platform", "version_info", "major", "os", "name", "startswith", "typing", "TYPE_CHECKING", "__name__"}
#: What such conditions consist of; in particular nothing that takes long, or much memory.
_PLAIN = (
    *(ast.Compare, ast.Attribute, ast.Name, ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Subscript, ast.Slice),
    *(ast.UnaryOp, ast.Call, ast.BoolOp, ast.cmpop, ast.unaryop, ast.boolop, ast.expr_context),
)
#: Whether the failure of an import ends the program: always, only if it executes it, or never.
REQUIRED, MAYBE, HANDLED = range(3)


class Import(NamedTuple):
    """An import of a module, or of names from it, in a file, which is given by its path below the consumer."""

    module: str
    names: list[str]
    line: int
    optional: int  #: `REQUIRED`, `MAYBE` or `HANDLED`
    instead_of: list[list[str]]  #: lists in each of which one must be missing for this import to be executed
    file: str = ""
    problem: str = ""  #: why a module of the consumer itself cannot be imported
    advice: str = ""


class Sources(NamedTuple):
    """What the modules of a consumer have in them."""

    errors: list[tuple[str, int, str]]  #: the files that are not valid Python, each with the line and the reason
    imports: list[Import]  #: those of third-party modules, and those that cannot succeed
    reached: list[str]  #: the files that the entry-point imports, without optional ones
    shadows: list[str]  #: the modules at the top that have the name of one of the standard library


def read_sources(directory: Path, entry_point: str) -> Sources:
    """Read all modules of a consumer."""
    return _Reader(directory).read(entry_point)


class _Reader:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._trees: dict[Path, ast.Module] = {}
        self._errors: list[tuple[str, int, str]] = []
        found = [path for path in sorted(directory.rglob("*.py")) if not path.is_dir()]
        paths = [path for path in found if path.is_file()]
        # To open a named pipe would block.
        self._errors += ((self._shown(path), 0, "it is not a regular file") for path in found if path not in paths)
        for path in paths:
            try:
                self._trees[path] = parse(path)
            except SyntaxError as error:
                self._errors.append((self._shown(path), error.lineno or 0, error.msg))
            except (ValueError, RecursionError, MemoryError) as error:
                self._errors.append((self._shown(path), 0, str(error) or "it is too deeply nested"))
        #: Whether the program extends Python's path, so that modules may be anywhere.
        self._extends_path = any(_PATHS.search(path.read_bytes()) for path in paths)
        self._made = {name for path in paths for name in _MADE.findall(_text(path))}
        self._name = ""  #: of the module that is read
        self._importers = {"__import__", "importlib.import_module"}

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._directory).as_posix()

    def read(self, entry_point: str) -> Sources:
        imports: list[Import] = []
        waiting, seen = [(self._directory, self._directory / entry_point, REQUIRED)], dict[Path, int]()
        while waiting:
            root, path, optional = waiting.pop()
            if path in seen and optional >= seen[path]:
                continue
            seen[path] = optional
            self._name = "__main__" if path == self._directory / entry_point else ""
            for wanted in self._imports(self._trees[path].body, optional, []) if path in self._trees else ():
                folder, files, found = self._resolve(root, path, wanted._replace(file=self._shown(path)))
                imports += found
                waiting += [(folder, file, wanted.optional) for file in files]
        shadows = sorted(set(_modules_at_the_top(self._directory)) & sys.stdlib_module_names)
        return Sources(self._errors, imports, sorted(self._shown(path) for path in seen if not seen[path]), shadows)

    def _resolve(self, root: Path, path: Path, wanted: Import) -> tuple[Path, list[Path], list[Import]]:
        """Find the files beside it that an import runs, below which folder, and what is to be said about it."""
        level = len(wanted.module) - len(wanted.module.lstrip("."))
        parts, package = wanted.module[level:].split("."), path.relative_to(root).parts[:-1]
        if level > len(package):
            return root, [], [] if wanted.optional else [_outside(wanted)]
        if level:
            parts = [*package[: len(package) - level + 1], *filter(None, parts)]
            wanted = wanted._replace(module=".".join(parts))
        folders = [root, self._directory]
        if self._extends_path:
            folders += [each.parent for name in (f"{parts[0]}.py", parts[0]) for each in self._directory.rglob(name)]
        folder = next((each for each in folders if _step(each, parts[0])[0]), None)
        if folder is None:
            wanted = wanted._replace(optional=wanted.optional or int(self._extends_path))
            return root, [], [] if self._made & {"", parts[0], wanted.module} else [wanted]
        module, files = folder, list[Path]()
        for part in parts:
            found, file = _step(module, part)
            if found is None:
                # The rest of a folder that is not a package may be in the environment.
                problems = [] if files and _MAKES_MODULES.search(_text(files[-1])) else [_not_there(wanted, part)]
                return folder, files, problems if files else [wanted]
            module, files = found, [*files, file] if file else files
        return folder, *_names_from(module, files, path, wanted)

    def _imports(self, body: Iterable[ast.AST], optional: int, rest: list[list[str]]) -> Iterator[Import]:
        for node in body:
            yield from self._calls(node, optional, rest)
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, [], node.lineno, optional, rest) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names = [alias.name for alias in node.names if alias.name != "*"]
                if node.module == "importlib":
                    self._importers |= {each.asname or each.name for each in node.names if each.name == "import_module"}
                yield Import("." * node.level + (node.module or ""), names, node.lineno, optional, rest)
            elif isinstance(node, ast.If | ast.While):
                holds = self._holds(node.test)
                kind = max(optional, MAYBE) if holds is None else optional
                yield from self._imports([] if holds is False else node.body, kind, rest)
                yield from self._imports([] if holds else node.orelse, kind, rest)
            elif isinstance(node, ast.Try | ast.TryStar):
                yield from self._imports_of_try(node, optional, rest)
            else:
                kind = HANDLED if _suppresses(node) else max(optional, int(isinstance(node, ast.match_case)))
                children = (each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt | ast.match_case))
                yield from self._imports(children, kind, rest)

    def _imports_of_try(self, node: ast.Try | ast.TryStar, optional: int, rest: list[list[str]]) -> Iterator[Import]:
        first = next((each for each in node.handlers if _catches(each.type, not _gives_up(each))), None)
        inside = HANDLED if first and not _gives_up(first) else optional
        tried = list(self._imports(node.body, inside, rest))
        yield from tried
        missing = [each.module for each in tried] + [f"{each.module}.{name}" for each in tried for name in each.names]
        for handler in node.handlers:
            instead = [*rest, missing] if missing and _catches(handler.type) else []
            yield from self._imports(handler.body, optional if instead else max(optional, MAYBE), instead or rest)
        yield from self._imports(node.orelse, inside, rest)
        yield from self._imports(node.finalbody, optional, rest)

    def _calls(self, node: ast.AST, optional: int, rest: list[list[str]]) -> Iterator[Import]:
        """The calls that import a module in the expressions of a statement, which may be nested deeply."""
        inner = (ast.stmt, ast.match_case, ast.excepthandler)
        nodes = [each for part in ast.iter_child_nodes(node) if not isinstance(part, inner) for each in ast.walk(part)]
        maybe = any(isinstance(each, ast.IfExp | ast.BoolOp) for each in nodes)
        for call in (each for each in nodes if isinstance(each, ast.Call) and each.args):
            name, of = getattr(call.args[0], "value", None), getattr(getattr(call.func, "value", None), "id", "")
            called = getattr(call.func, "id", f"{of}.{getattr(call.func, 'attr', '')}")
            if called in self._importers and isinstance(name, str) and not name.startswith("."):
                yield Import(name, [], call.lineno, max(optional, maybe), rest)

    def _holds(self, test: ast.expr) -> bool | None:
        """Whether a condition holds, if that never changes."""
        if isinstance(test, ast.BoolOp):
            decisive, known = isinstance(test.op, ast.Or), [self._holds(each) for each in test.values]
            return decisive if decisive in known else None if None in known else not decisive
        with contextlib.suppress(Exception):  # whatever it raises, it is not known
            code = compile(ast.unparse(test).replace("platform.system()", repr(platform.system())), "", "eval")
            plain = all(isinstance(each, _PLAIN) for each in ast.walk(test))
            if plain and _FACTS.issuperset(code.co_names):
                names = {"sys": sys, "os": os, "typing": typing, "TYPE_CHECKING": False, "__name__": self._name}
                return bool(eval(code, names))  # noqa: S307  (it can name nothing else)
        return None


def parse(path: Path) -> ast.Module:
    """Parse a file; raises also ValueError, RecursionError or MemoryError if it is not Python."""
    source, encoding, position = path.read_bytes(), "utf-8", -1
    # Python refuses to run a file with bytes that are invalid in its encoding, even in a comment.
    try:
        with contextlib.suppress(SyntaxError):  # which parsing finds, too
            encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
        source.decode(encoding)
        position = source.find(b"\0")
    except LookupError as error:
        line = 1 if b"coding" in source.partition(b"\n")[0] else 2
        raise SyntaxError(str(error).partition(";")[0], (path.name, line, 0, None)) from None
    except UnicodeDecodeError as error:
        position = error.start
    if position >= 0:
        line = source[:position].count(b"\n") + 1
        raise SyntaxError(f"byte {position} of the file is not text in {encoding}", (path.name, line, 0, None))
    tree = ast.parse(source)
    # Finds errors that the grammar permits, such as a `return` outside of a function.
    compile(tree, path, "exec", dont_inherit=True)
    return tree


def _step(folder: Path, name: str) -> tuple[Path | None, Path | None]:
    """The module, package or folder of a name, and the file that an import of it runs, if it has one in Python."""
    if (package := folder / name / "__init__.py").is_file():
        return package.parent, package
    if (module := folder / f"{name}.py").is_file():
        return module, module
    compiled = [*folder.glob(f"{name}.*.so"), folder / f"{name}.so", folder / f"{name}.pyc"]
    return next((each for each in (*compiled, folder / name) if each.exists()), None), None


def _names_from(module: Path, files: list[Path], importer: Path, wanted: Import) -> tuple[list[Path], list[Import]]:
    """The files of the submodules among the imported names as well, and problems with names that are not defined."""
    source = files[-1] if files and module in (files[-1], files[-1].parent) else None
    steps = {name: _step(module, name) for name in wanted.names}
    unknown = [name for name, (found, _) in steps.items() if not found and not name.startswith("__")]
    if source == importer or (source is None and not module.is_dir()):
        unknown = []
    problems = [_not_there(wanted, name) for name in unknown if source is None or not _may_define(source, name)]
    return files + [file for _, file in steps.values() if file], problems


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _may_define(source: Path, name: str) -> bool:
    try:
        symbols = symtable.symtable(source.read_bytes(), str(source), "exec")  # type: ignore[arg-type]
        known = {each.get_name() for each in symbols.get_symbols() if each.is_local() or each.is_declared_global()}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return name in known or bool(_DYNAMIC.search(_text(source)))


def _outside(wanted: Import) -> Import:
    names, name = ", ".join(wanted.names), wanted.module.lstrip(".")
    problem = f"`from {wanted.module} import {names}` is relative to a package, and {wanted.file} runs outside of one"
    advice = f"write `from {name} import {names}`" if name else f"write `import {names}`"
    return wanted._replace(problem=problem, advice=advice)


def _not_there(wanted: Import, name: str) -> Import:
    what = f"{name} from {wanted.module}" if name in wanted.names else wanted.module
    problem = f"it imports {what}, but the consumer's {wanted.module.partition(f'.{name}')[0]} has no {name}"
    return wanted._replace(problem=problem, advice="add it, or correct the name")


def _modules_at_the_top(directory: Path) -> list[str]:
    """The modules and packages beside the entry-point, without those that an installer put there with metadata."""
    packages = [path.parent.name for path in directory.glob("*/__init__.py")]
    packages = [name for name in packages if not list(directory.glob(f"{name}-*.dist-info"))]
    return [*packages, *(path.stem for path in directory.glob("*.py") if path.stem != "__main__")]


def _suppresses(node: ast.AST) -> bool:
    items = node.items if isinstance(node, ast.With | ast.AsyncWith) else []
    calls = [item.context_expr for item in items if isinstance(item.context_expr, ast.Call)]
    return any(_catches(each, "suppress" in ast.unparse(call.func)) for call in calls for each in call.args)


def _catches(expression: ast.expr | None, others: bool = True) -> bool:
    """Whether it is, or contains, an exception that a failed import raises; or others' exceptions, which may be one."""
    parts = getattr(expression, "elts", [expression or ast.Name("BaseException")])
    names = [ast.unparse(part).rpartition(".")[2] for part in parts]
    return any(name in _CATCHING or (others and not hasattr(builtins, name)) for name in names)


def _gives_up(handler: ast.ExceptHandler) -> bool:
    """Whether a handler ends the program as a failure, in its last statement."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise | ast.Expr) and bool(_GIVES_UP.match(ast.unparse(last)))


def missing_modules(directory: str, wanted: Iterable[tuple[str, list[str]]]) -> dict[str, Any]:
    """Find the modules and names that a program in this interpreter and in a directory could not import.

    Only modules that seem to be missing are imported, since packages can make modules that have no file.

    Returns:
        The ``missing`` ones, the modules at the top that are installed as well (``hidden``), and ``python``'s version.
    """
    find, path = importlib.machinery.PathFinder.find_spec, list(sys.path)
    # Last, so that what is imported does not get the consumer's modules instead of Python's.
    sys.path.append(directory)
    missing = dict.fromkeys(name for module, names in wanted for name in _missing(module, names))
    tops = sorted(set(_modules_at_the_top(Path(directory))) - sys.stdlib_module_names)
    version = ".".join(map(str, sys.version_info[:2]))
    return {"missing": list(missing), "hidden": [name for name in tops if find(name, path)], "python": version}


def _missing(module: str, names: list[str]) -> Iterator[str]:
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return  # such as __main__
    if spec is None:
        yield top
        return
    full = top
    for part in rest:
        full = f"{full}.{part}"
        spec = _submodule(spec, full) if spec else None
    if spec is None and not _importable(module):
        yield module
        return
    # Of the standard library, modules without a source can be imported, too.
    source, standard = Path(str(spec and spec.origin)), top in sys.stdlib_module_names
    for name in names if standard or source.suffix == ".py" else ():
        known = name.startswith("__") or (not standard and _may_define(source, name))
        if not known and not (spec and _submodule(spec, f"{module}.{name}")) and not _importable(module, name):
            yield f"{module}.{name}"


def _submodule(spec: Any, full: str) -> Any:
    # Of a folder in a folder, both without an __init__.py, it can only be found when the outer one is imported.
    with contextlib.suppress(KeyError, ModuleNotFoundError):  # the latter since Python 3.15
        if places := spec.submodule_search_locations:
            return importlib.machinery.PathFinder.find_spec(full, places)
    return None


def _importable(module: str, name: str = "") -> bool:
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that it imports in turn may be missing, too.
        return not f"{module}.".startswith(f"{error.name}.")
    except BaseException:  # whatever it raises, it is there
        return True
    return not name or hasattr(imported, name)


def main(task: str, directory: str, entry_point: str, *preload: str) -> None:
    """Print as JSON what `read_sources` finds, and in an environment what `missing_modules` finds."""
    sources = read_sources(Path(directory), entry_point)
    result: dict[str, Any] = sources._asdict()
    if task == "environment":
        wanted = [(each.module, each.names) for each in sources.imports if not each.problem]
        result |= missing_modules(directory, [*wanted, *((name, []) for name in preload)])
    print(f"\n{json.dumps(result)}", flush=True)  # noqa: T201
    # Modules that were imported may have left threads.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
