"""Reads a consumer's modules without running them: their syntax errors, and what they import.

The file is run in the interpreter that is to run the consumer, whose grammar and modules count, see `import_checks`.
So it imports the standard library only.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import importlib.util
import io
import json
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

#: What lets a module have names that its source does not contain.
_DYNAMIC = re.compile(
    r"import \*|__getattr__|__path__|__dict__|(globals|locals|vars|setattr|exec|import_module)\(|sys\.modules"
)
_PATHS = re.compile(rb"sys\.path|from sys import .*\bpath\b|addsitedir")
_CATCHING = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")


class Import(NamedTuple):
    """An import of a module, or of names from it, in a file, which is given by its path below the consumer."""

    module: str
    names: list[str]
    line: int
    optional: bool  #: whether the program handles its failure, or may not execute it
    instead_of: list[str]  #: the modules of which one must be missing for this import to be executed
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

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._directory).as_posix()

    def read(self, entry_point: str) -> Sources:
        imports: list[Import] = []
        waiting, seen = [(self._directory, self._directory / entry_point, False)], dict[Path, bool]()
        while waiting:
            root, path, optional = waiting.pop()
            if path in seen and (optional or not seen[path]):
                continue
            seen[path] = optional
            for wanted in _imports(self._trees[path].body, optional) if path in self._trees else ():
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
            return root, [], [wanted._replace(optional=wanted.optional or self._extends_path)]
        module, files = folder, list[Path]()
        for part in parts:
            found, file = _step(module, part)
            if found is None:
                # The rest of a folder that is not a package may be in the environment.
                problems = [] if files and _DYNAMIC.search(_text(files[-1])) else [_not_there(wanted, part)]
                return folder, files, problems if files else [wanted]
            module, files = found, [*files, file] if file else files
        return folder, *_names_from(module, files, path, wanted)


def parse(path: Path) -> ast.Module:
    """Parse a file; raises also ValueError, RecursionError or MemoryError if it is not Python."""
    source = path.read_bytes()
    # Python refuses to run a file with bytes that are invalid in its encoding, even in a comment.
    source.decode(tokenize.detect_encoding(io.BytesIO(source).readline)[0])
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
    text = _text(source)
    return bool(_DYNAMIC.search(text) or re.search(rf"\b{re.escape(name)}\b", text))


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


def _imports(body: Iterable[ast.AST], optional: bool = False, instead_of: Iterable[str] = ()) -> Iterator[Import]:
    """The imports in statements; expressions have none, and may be nested deeper than Python's recursion limit."""
    rest = list(instead_of)
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, [], node.lineno, optional, rest) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if alias.name != "*"]
            yield Import("." * node.level + (node.module or ""), names, node.lineno, optional, rest)
        elif isinstance(node, ast.If):
            test = ast.unparse(node.test)
            constant = node.test if isinstance(node.test, ast.Constant) else None
            never = "TYPE_CHECKING" in test or (constant and not constant.value)
            maybe = optional or not (constant or test == "__name__ == '__main__'")
            yield from _imports([] if never else node.body, maybe, rest)
            yield from _imports(node.orelse, maybe, rest)
        elif isinstance(node, ast.Try | ast.TryStar):
            yield from _imports_of_try(node, optional, rest)
        else:
            maybe = optional or isinstance(node, ast.match_case) or _suppresses(node)
            children = (each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt | ast.match_case))
            yield from _imports(children, maybe, rest)


def _imports_of_try(node: ast.Try | ast.TryStar, optional: bool, rest: list[str]) -> Iterator[Import]:
    handled = any(handler.type is None or _catches(handler.type) for handler in node.handlers)
    tried = list(_imports(node.body, optional or handled, rest))
    yield from tried
    for handler in node.handlers:
        yield from _imports(handler.body, optional, [*rest, *(each.module for each in tried if handled)])
    yield from _imports(node.orelse, optional or handled, rest)
    yield from _imports(node.finalbody, optional, rest)


def _suppresses(node: ast.AST) -> bool:
    calls = [item.context_expr for item in node.items] if isinstance(node, ast.With | ast.AsyncWith) else []
    suppressing = [each for each in calls if isinstance(each, ast.Call) and ast.unparse(each.func).endswith("suppress")]
    return any(_catches(argument) for call in suppressing for argument in call.args)


def _catches(expression: ast.expr) -> bool:
    """Whether it is, or contains, an exception that a failed import raises; other names than Python's may be one."""
    parts = expression.elts if isinstance(expression, ast.Tuple) else [expression]
    names = [ast.unparse(part).rpartition(".")[2] for part in parts]
    return any(name in _CATCHING or not hasattr(builtins, name) for name in names)


def missing_modules(directory: str, wanted: Iterable[tuple[str, list[str]]]) -> dict[str, Any]:
    """Find the modules and names that a program in this interpreter and in a directory could not import.

    Only modules that seem to be missing are imported, since packages can make modules that have no file.

    Returns:
        The ``missing`` ones, the modules at the top that are installed as well (``hidden``), and ``python``'s version.
    """
    find, path = importlib.machinery.PathFinder.find_spec, list(sys.path)
    sys.path.insert(0, directory)
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
    elif spec and str(spec.origin).endswith(".py"):
        for name in names:
            known = name.startswith("__") or _may_define(Path(str(spec.origin)), name)
            if not known and not _submodule(spec, f"{module}.{name}") and not _importable(module, name):
                yield f"{module}.{name}"


def _submodule(spec: Any, full: str) -> Any:
    places = spec.submodule_search_locations
    return importlib.machinery.PathFinder.find_spec(full, places) if places else None


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
