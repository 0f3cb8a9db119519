"""Explain syntax errors in a JSONPath: the position, the expected tokens, and a hint for users of other dialects."""

from __future__ import annotations

import re
from typing import Any

import antlr4
from antlr4.error.ErrorListener import ErrorListener
from jsonpath2.parser.JSONPathLexer import JSONPathLexer
from jsonpath2.parser.JSONPathParser import JSONPathParser

from ..errors import FilterError

DIALECT = "write it in jsonpath2's dialect, as in " + '$["data"][*][?(@["destinationTable"] = "Files")]'
FUNCTIONS = 'there are charAt(), entries(), keys(), length(), values() and substring(), as in [substring(-4)] = ".csv"'
#: The numbers of characters that are shown before and after the position of an error.
_BEFORE, _AFTER = 60, 40
_MOST_EXPECTED = 6
_WORDS = {"<EOF>": "the end", "STRING": "a text in double quotes", "NUMBER": "a number", "ID": "a name"}
#: Groups of tokens that a message names by one word.
_GROUPS = (
    (frozenset({"'@'", "'$'"}), "a path"),
    (frozenset({"'true'", "'false'", "'null'", "'{'", "'['", _WORDS["STRING"], _WORDS["NUMBER"]}), "a value"),
)
#: Patterns of other dialects at the position of an error, and their equivalents in jsonpath2's dialect.
_HINTS = (
    (r"==", "equality is a single =, as in " + '?(@["a"] = 1)'),
    (r"=~", "jsonpath2 does not support regular expressions; compare with = or with charAt() and substring()"),
    (r"<>", "inequality is !="),
    (r"&&?", "write and"),
    (r"\|\|?", "write or"),
    (r"!(?!=)", "write not, as in " + '?(not @["a"])'),
    (r"'", "texts and names stand in double quotes, as in " + '$["data"]'),
    (r"\?\s*@", "a filter stands in parentheses, as in " + '?(@["a"] = 1)'),
    (r"\b(in|contains|like|matches)\b", "jsonpath2 does not have this operator; use =, and or between several values"),
    (r"\.\d", "indices are whole numbers"),
    (r'"[^"]*\\', "texts have no escapes: leave the backslash out, and compare a part of the text with substring()"),
    (r'(?<=")\w', "texts cannot contain double quotes; compare a part of the text with substring()"),
    (r'"[^"]*[\x00-\x1f]', "texts cannot contain tabs or other control characters"),
)


def check_syntax(jsonpath: str) -> None:
    """Parse an expression with our own error listener.

    jsonpath2's parser keeps ANTLR's default listener, which writes to standard error.

    Raises:
        FilterError: It cannot be parsed.
    """

    class Pointer(ErrorListener):  # type: ignore[misc]  # the base publishes no types
        def syntaxError(  # noqa: N802  (ANTLR's name and arguments)
            self, recognizer: Any, symbol: Any, line: int, column: int, _message: str, _error: Any
        ) -> None:
            raise _error_at(jsonpath, line, column, symbol, recognizer)

    class Parser(JSONPathParser):  # type: ignore[misc]
        def tryCast(self, kind: type) -> bool:  # noqa: N802  (the grammar's predicates call it)
            try:
                kind(self._input.LT(-1).text)
            except ValueError:
                return False
            return True

    lexer = JSONPathLexer(antlr4.InputStream(jsonpath))
    parser = Parser(antlr4.CommonTokenStream(lexer))
    for recognizer in (lexer, parser):
        recognizer.removeErrorListeners()
        recognizer.addErrorListener(Pointer())
    try:
        parser.jsonpath()
    except RecursionError as error:
        raise FilterError("cannot parse the JSONPath: it is nested too deeply", "shorten it") from error


def _error_at(jsonpath: str, line: int, column: int, symbol: Any, recognizer: Any) -> FilterError:
    # Not splitlines(): the parser counts only line feeds, and the last line may be empty.
    text = jsonpath.split("\n")[line - 1]
    start = max(0, column - _BEFORE)
    # A terminal shows each of them in one column.
    excerpt = "".join(each if each.isprintable() else "\ufffd" for each in text[start : column + _AFTER])
    output = f"{excerpt}\n{' ' * (column - start)}^"
    token = getattr(symbol, "text", None)
    found = "the end of it" if column >= len(text.rstrip()) else repr(str(token or text[column]))
    expected = _expected(recognizer, token)
    problem = f"cannot parse the JSONPath: line {line}, column {column + 1}: {found} cannot stand here"
    if expected:
        problem += f", but {expected} could"
    return FilterError(problem, _hint(text, column) or DIALECT, output=output)


def _expected(recognizer: Any, found: str | None) -> str:
    if not isinstance(recognizer, JSONPathParser):
        return ""
    names = {_name(recognizer, token) for token in recognizer.getExpectedTokens()}
    for group, word in _GROUPS:
        if group <= names:
            names = names - group | {word}
    if f"'{found}'" in names or not 0 < len(names) <= _MOST_EXPECTED:
        return ""
    *others, last = sorted(names, key=lambda word: (word[0].isalpha(), word))
    return f"{', '.join(others)} or {last}" if others else last


def _name(parser: Any, token: int) -> str:
    if token == antlr4.Token.EOF:
        return _WORDS["<EOF>"]
    literal = parser.literalNames[token] if token < len(parser.literalNames) else "<INVALID>"
    if literal != "<INVALID>":
        return str(literal)
    symbolic = str(parser.symbolicNames[token])
    return _WORDS.get(symbolic, symbolic.lower())


def _hint(text: str, column: int) -> str:
    if not text.lstrip().startswith("$"):
        name = re.match(r"@?\.?\[?['\"]?([A-Za-z_]\w*)", text.strip())
        return f'a path begins with $, as in $["{name[1] if name else "data"}"]'
    for pattern, hint in _HINTS:
        if any(found.start() <= column <= found.end() for found in re.finditer(pattern, text)):
            return hint
    if column < len(text) and re.match(r"[A-Za-z_]", text[column]):
        return "texts stand in double quotes, and names of the value at hand after @, as in " + '?(@["a"] = "b")'
    return ""
