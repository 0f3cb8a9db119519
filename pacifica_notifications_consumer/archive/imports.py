"""Finds the imports of a consumer's modules without running them."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import attrs

from ..system.files import special_kind


@attrs.frozen(kw_only=True)
class Import:
    """An import of a top-level module in a file, which is given by its path below the consumer's directory."""

    module: str
    file: str
    line: int
    optional: bool  #: whether it stands in a ``try`` that handles its failure


class SourceError(Exception):
    """A file of a consumer is not valid Python; the line is 0 if it is not known."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}")
        self.line, self.reason = line, reason


def parse(path: Path, shown_as: str) -> ast.Module:
    """Parse a file, which errors call ``shown_as``, as Python; raises `SourceError`."""
    if kind := special_kind(path):
        raise SourceError(shown_as, 0, f"it is {kind}")
    try:
        source = path.read_bytes()
        # Python refuses to run a file with bytes that are invalid in its encoding, even in a comment.
        source.decode(tokenize.detect_encoding(io.BytesIO(source).readline)[0])
        tree = ast.parse(source, filename=shown_as)
        # Finds errors that the grammar permits, such as a `return` outside of a function.
        compile(tree, shown_as, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise SourceError(shown_as, error.lineno or 0, error.msg) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError(shown_as, 0, str(error) or "it is too deeply nested") from error
    return tree


def find_imports(directory: Path, entry_point: str) -> Iterator[Import]:
    """Find the third-party imports of an entry-point, and of the modules beside it that it imports.

    Modules of the standard library and modules beside the entry-point are not yielded. Raises `SourceError`.
    """
    waiting, seen = [directory / entry_point], set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        file = path.relative_to(directory).as_posix()
        for name, line, optional in _names(parse(path, file)):
            top = name.partition(".")[0]
            local = _local_files(directory, name)
            waiting += local
            if not local and top not in sys.stdlib_module_names:
                yield Import(module=top, file=file, line=line, optional=optional)


def _local_files(directory: Path, name: str) -> list[Path]:
    """The files beside an entry-point that run when a module is imported; empty if the module is not there."""
    found = []
    folder = directory
    for part in name.split("."):
        candidates = [folder / f"{part}.py", folder / part / "__init__.py"]
        found += [path for path in candidates if path.is_file()]
        folder /= part
        if not found and folder.is_dir():
            # A package without __init__.py: its modules may be imported.
            continue
        if not found:
            break
    return found or ([] if not folder.is_dir() else sorted(folder.glob("*.py")))


def _names(tree: ast.AST, optional: bool = False) -> Iterator[tuple[str, int, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, optional) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno, optional
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for branch in node.orelse:
                yield from _names(branch, optional)
        elif isinstance(node, ast.Try):
            yield from _names_of_try(node, optional)
        else:
            yield from _names(node, optional)


def _names_of_try(node: ast.Try, optional: bool) -> Iterator[tuple[str, int, bool]]:
    expected = any(handler.type is None or "Error" in ast.unparse(handler.type) for handler in node.handlers)
    for part in node.body:
        yield from _names(ast.Module([part], []), optional or expected)
    for handler in node.handlers:
        yield from _names(handler, optional)
    for part in (*node.orelse, *node.finalbody):
        yield from _names(ast.Module([part], []), optional)
