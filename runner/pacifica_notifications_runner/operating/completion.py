"""The subcommand completion: prints the completion script of a shell."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.terminal import say

DESCRIPTION = """\
Print the script that lets a shell complete the commands of this package and their flags.
"""

EPILOG = """\
Examples, for ~/.bashrc, for ~/.zshrc (after compinit), and for ~/.config/fish/config.fish:
  source <(pacifica-notifications-consumer completion bash)
  source <(pacifica-notifications-consumer completion zsh)
  pacifica-notifications-consumer completion fish | source

Exit status: 0 done; 2 wrong command line; 78 wrong settings.
"""

_BASH = """\
_pacifica_complete() {
    local path=$1 word before=${COMP_WORDS[COMP_CWORD-1]} index
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        [[ -n ${_pacifica_words[$path $word]+known} ]] && path="$path $word"
    done
    if [[ -n ${_pacifica_words[$path $before]+known} && $before == -* ]]; then
        path="$path $before"
    elif [[ -n ${_pacifica_files[$path $before]+known} ]]; then
        COMPREPLY=()
        return
    fi
    COMPREPLY=($(compgen -W "${_pacifica_words[$path]}" -- "${COMP_WORDS[COMP_CWORD]}"))
}
"""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "completion", show, "print the completion script of a shell", DESCRIPTION, EPILOG
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="bash|zsh|fish", help="the shell")


def show(arguments: argparse.Namespace, _settings: Settings) -> int:
    """Print the script."""
    parsers = arguments.parsers()
    say(_fish(parsers) if arguments.shell == "fish" else _bash(arguments.shell, parsers))
    return 0


def _bash(shell: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    lines = ["autoload -U bashcompinit && bashcompinit"] if shell == "zsh" else []
    lines.append("declare -A _pacifica_words _pacifica_files")
    for program, parser in parsers.items():
        for path, subparser in walk(parser):
            path_words = " ".join((program, *path))
            words = [flag for action in flags(subparser) for flag in action.option_strings]
            words += [name.split()[-1] for name in subcommands(subparser)]
            lines.append(_entry("words", path_words, " ".join(dict.fromkeys(words))))
            for action in flags(subparser):
                values = _words_of(action)
                for flag in action.option_strings if action.nargs != 0 else ():
                    kind = "words" if values else "files"
                    lines.append(_entry(kind, f"{path_words} {flag}", " ".join(values) or "yes"))
    lines.append(_BASH.rstrip())
    for program in parsers:
        short = program.replace("-", "_")
        lines.append(f"_{short}() {{ _pacifica_complete {program}; }}")
        # By default a word is completed as a file.
        lines.append(f"complete -o default -F _{short} {program}")
    return "\n".join(lines)


def _entry(array: str, key: str, value: str) -> str:
    """An entry of an array, in a syntax of both bash and zsh."""
    return f"_pacifica_{array}+=([{shlex.quote(key)}]={shlex.quote(value)})"


def _fish(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    lines = []
    for program, parser in parsers.items():
        for path, subparser in walk(parser):
            seen = [f"__fish_seen_subcommand_from {word}" for word in path]
            below = sorted({name.split()[0] for name in subcommands(subparser)})
            here = "; and ".join([*seen, f"not __fish_seen_subcommand_from {' '.join(below)}"] if below else seen)
            condition = f" -n {shlex.quote(here)}" if here else ""
            for name, each in subcommands(subparser).items():
                if len(name.split()) == 1:
                    lines.append(f"complete -c {program} -f{condition} -a {name} -d {_summary(each.description)}")
            begin = f"complete -c {program}{condition}"
            lines += [f"{begin} {_fish_flag(each)} -d {_summary(each.help)}" for each in flags(subparser)]
    return "\n".join(lines)


def _fish_flag(action: argparse.Action) -> str:
    parts = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in action.option_strings]
    if action.nargs != 0:
        values = _words_of(action)
        parts.append(f"-x -a {shlex.quote(' '.join(values))}" if values else "-r")
    return " ".join(parts)


def _summary(text: str | None) -> str:
    """The beginning of a help text."""
    first = " ".join((text or "").replace("%%", "%").split()).split(";")[0].split(" [PACIFICA_")[0].split(":")[0]
    return shlex.quote(first if len(first) <= 80 else first[:79] + "…")


def subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The subcommands of a command, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def walk(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """A command and all its subcommands, with the words that lead to each."""
    yield path, parser
    for name, subparser in subcommands(parser).items():
        yield from walk(subparser, (*path, *name.split()))


def flags(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The flags of a command."""
    return (action for action in parser._actions if action.option_strings and action.help is not argparse.SUPPRESS)


def _words_of(action: argparse.Action) -> list[str]:
    """The words that a flag accepts; empty if it accepts others, too."""
    if action.choices:
        return [str(choice) for choice in action.choices]
    words = str(action.metavar or "")
    return words.split("|") if "|" in words and words.islower() else []
