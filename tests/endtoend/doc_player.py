"""Plays a page of the documentation: does with each of its code blocks, in order, what a reader would do.

A page that is no tutorial supposes a reader with a consumer: ``count-lines`` is one, and ``consumer.zip``.

All happens in one directory, and in one shell, whose variables and working directory are carried from block to block.
By the words behind the fence:

- ``python``: a complete script, which is run; ``python NAME``: one that is saved under the name, to be run later;
- ``python entry-point [NAME]``: an entry-point: it is saved, and run with ``SRC`` and ``DST``;
- ``ini [NAME]``, ``text NAME``, ``xml NAME``: saved under the name; an INI file must have settings that are known;
- ``json``: must be JSON;
- ``console``: the lines behind ``$`` are typed, and the others must be among what comes of that. There, numbers, dates
  and what looks like a hash are not compared, and ``…`` stands for anything. A command that serves is left running
  until the page ends, or a line with ``^C`` follows. ``console STATUS``: its commands end with that status;
- ``sh``: a command that is not played, since the tests themselves consist of it: a shell must be able to read it;
- ``text``: shown only.

Addresses of examples are replaced by those of a sandbox, and places of the system by places in the directory.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pacifica_notifications_consumer import upload
from pacifica_notifications_consumer.archive.packing import pack
from pacifica_notifications_consumer.settings.option import PREFIX, read_ini
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_runner.options.settings import OPTIONS
from tests.engines.brokers import RedisServer
from tests.support.machine.ports import free_port
from tests.support.paths import ROOT, cache_variables

TRANSACTION = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
DEADLINE = 120.0
_FENCED = re.compile(r"^```(?P<info>[a-z][^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
#: How a command that serves begins, and what it says when it does.
_SERVERS = {
    "pacifica-notifications-consumer sandbox": "Stop it with Ctrl-C",
    "start-pacifica-notifications-consumer": "ready: ",
    "pacifica-notifications-consumer worker": "ready: ",
}
#: What may differ from run to run.
_VARIABLE = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{6,}(?:-[0-9a-f]{4,})*\b|\d[\d.,:T-]*")
_TEMPORARY = re.compile(r"(pacifica-\w+-)[A-Za-z0-9_]{8}\b")
#: A path in quotation marks because of a space, which no page has.
_QUOTED = re.compile(r"'(/[^']* [^']*)'")


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: the words behind the fence, and the code."""
    for found in _FENCED.finditer(page.read_text(encoding="utf-8")):
        yield found["info"].strip(), found["code"]


def is_played(info: str) -> bool:
    """Whether something is done with a block."""
    kind, *names = info.split()
    return kind in ("python", "console", "ini", "json", "sh") or (kind in ("text", "xml") and bool(names))


class Player:
    """Plays one page.

    Args:
        page: The page.
        home: The directory to play it in.
        sandbox: What the addresses of the examples stand for.
        python: An interpreter whose environments need nothing installed, so that starts are quick.
    """

    def __init__(self, page: Path, home: Path, sandbox: Sandbox, python: Path) -> None:
        self._page = page
        self._home = home
        self._sandbox = sandbox
        self._servers: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._scripts = 0
        self._redis: RedisServer | None = None
        (home / "tmp").mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PYTHON"))}
        self._environ = inherited | {
            **sandbox.environ(),
            "PACIFICA_USERNAME": "alice",
            "PACIFICA_PYTHON": str(python),
            "PACIFICA_INSTALLER": "pip",
            "TMPDIR": str(home / "tmp"),
            "XDG_STATE_HOME": str(home / "states"),
            **cache_variables(home),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited["PATH"]]),
            "COLUMNS": "120",
        }
        if page.parent.name != "tutorial":
            template = ROOT / "runner" / "pacifica_notifications_runner" / "templates" / "minimal"
            shutil.copytree(template, home / "count-lines")
            pack(home / "count-lines", home / "consumer.zip")
        for folder in ("etc", "lib", "cache"):
            (home / folder).mkdir()
        (home / "etc" / "password").write_text("secret")
        # For the tutorial, whose reader has a clone.
        clone = home / "pacifica-notifications-consumer"
        clone.mkdir()
        for name in ("setup.py", "pyproject.toml", "README.md", "runner", "pacifica_notifications_consumer"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, clone / name)
        (home / "environ").write_text(f"cd {shlex.quote(str(home))}\n", encoding="utf-8")
        self._replaced = self._replacements()

    def _replacements(self) -> dict[str, str]:
        """What stands in the pages, and what is taken instead."""
        urls = dict(zip((8070, 8081, 8066, 8181), self._sandbox.environ().values(), strict=True))
        names = ("pacifica.example.org", "127.0.0.1")
        replaced = {f"http://{name}:{port}": url for name in names for port, url in urls.items()}
        free = free_port()
        replaced |= {"8088": str(free), "/var/lib/pacifica": f"{self._home}/lib", "/etc/pacifica": f"{self._home}/etc"}
        replaced |= {"/var/cache/pacifica": f"{self._home}/cache", "/home/you": str(self._home)}
        # The sandbox is on this machine.
        replaced |= {"address = 0.0.0.0": "address = 127.0.0.1", "--address 0.0.0.0": "--address 127.0.0.1"}
        if "redis://broker.example.org" in self._page.read_text(encoding="utf-8"):
            self._redis = RedisServer(self._home / "redis")
            self._redis.start()
            replaced["broker.example.org:6379"] = f"127.0.0.1:{self._redis.port}"
        return replaced

    def play(self) -> None:
        """Play the page.

        Raises:
            AssertionError: It does not do what it says.
        """
        try:
            for info, code in blocks(self._page):
                self._play(info.split(), self._replace(code))
        finally:
            while self._servers:
                self._stop()
            if self._redis:
                self._redis.close()

    def _replace(self, text: str) -> str:
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        return text

    def _play(self, info: list[str], code: str) -> None:
        kind, *rest = info
        if kind == "python" and rest[:1] == ["entry-point"]:
            self._entry_point(code, rest[1] if rest[1:] else "__main__.py")
        elif rest and kind in ("python", "ini", "text", "xml"):
            self._save(rest[0], code)
        elif kind == "python":
            self._scripts += 1
            script = self._save(f"script{self._scripts}.py", code)
            self._run([sys.executable, script.name], code)
        elif kind == "json":
            json.loads(code)
        elif kind == "console":
            self._console(code, int(rest[0]) if rest else 0)
        elif kind == "sh":
            subprocess.run(["/bin/bash", "-n", "-c", code.replace("…", "")], check=True)
        if kind == "ini":
            read_ini(self._save(rest[0] if rest else "unnamed.ini", code), OPTIONS.values())

    def _save(self, name: str, code: str) -> Path:
        path = self._home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        return path

    def _run(self, arguments: list[str | Path], code: str, **variables: str) -> None:
        finished = subprocess.run(
            arguments,
            cwd=self._home,
            env=self._environ | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert (finished.returncode, finished.stderr) == (0, ""), f"{finished.stderr}\n{code}"

    def _entry_point(self, code: str, name: str) -> None:
        """Save an entry-point, and run it for a transaction with a file in a folder, as a runner would."""
        script = self._save(name, code)
        source, destination = self._home / "SRC", self._home / "DST"
        for path in (source / "uploads" / "spectra" / "probe.txt", destination / "uploads" / "spectra" / "probe.txt"):
            path.parent.mkdir(parents=True, exist_ok=True)
        (source / "uploads" / "spectra" / "probe.txt").write_text("beta 2.5\nalpha 1.0\n")
        upload(source, TRANSACTION, services=Services.from_environment(self._environ)).get()
        self._run(
            [sys.executable, script, source, destination],
            code,
            HOME=str(self._home),
            PACIFICA_CONSUMER="documented",
        )

    def _console(self, code: str, status: int) -> None:
        command, expected = "", list[str]()
        for line in [*code.splitlines(), "$ "]:
            if line.startswith("> "):
                command += f"\n{line[2:]}"
            elif command.endswith("\\"):
                command += f"\n{line}"
            elif line == "^C" or line.startswith("$"):
                self._type(command, expected, status)
                command, expected = line.removeprefix("$").strip(), []
            else:
                expected.append(line)

    def _type(self, command: str, expected: list[str], status: int) -> None:
        if command == "^C":
            self._stop(expected)
        if command in ("", "^C"):
            return
        command = command.replace(str(self._home), shlex.quote(str(self._home)))
        for beginning, marker in _SERVERS.items():
            words = Path(command.split()[0]).name + command[len(command.split()[0]) :]
            if words.startswith(beginning) and not words.startswith(f"{beginning} upload"):
                self._serve(command, marker, expected)
                return
        said = self._shell(command, status)
        _compare(expected, said, command)

    def _shell(self, command: str, status: int) -> str:
        state = shlex.quote(str(self._home / "environ"))
        script = f'. {state}; {command}\nstatus=$?; {{ export -p; printf "cd %q\\n" "$PWD"; }} > {state}; exit $status'
        finished = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=self._home,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
        )
        assert finished.returncode == status, f"{command}\n{finished.stdout}"
        return finished.stdout

    def _serve(self, command: str, marker: str, expected: list[str]) -> None:
        """Start a command that serves, and wait until it does."""
        if " sandbox" in command:
            # The ports of the page may be taken on this machine.
            command += "".join(f" --{name}-port 0" for name in ("producer", "cartd", "ingest", "policy"))
        log = self._home / f"server{len(self._servers)}.log"
        state = shlex.quote(str(self._home / "environ"))
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/bash", "-c", f". {state}; exec {command}"],
                cwd=self._home,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._servers.append((process, log))
        _wait_for(log, [marker], process, command)
        said = log.read_text(encoding="utf-8")
        for name, url in re.findall(r"export (PACIFICA_\w+_URL)=(\S+)", said):
            port = {"PRODUCER": 8070, "CARTD": 8081, "INGEST": 8066, "POLICY": 8181}[name.split("_")[1]]
            for old in [key for key in self._replaced if key.endswith(f":{port}")]:
                self._replaced[old] = url
            expected = [line.replace(self._sandbox.environ()[name], url) for line in expected]
        _wait_for(log, expected, process, command)

    def _stop(self, expected: list[str] | None = None) -> None:
        """Press Ctrl-C in the shell of the command that was started last."""
        process, log = self._servers.pop()
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE)
        if expected:
            _compare(expected, log.read_text(encoding="utf-8"), "^C")


def _wait_for(log: Path, expected: list[str], process: subprocess.Popen[bytes], command: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while missing := _missing(expected, log.read_text(encoding="utf-8")):
        assert process.poll() is None, f"{command} ended:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"{command} does not say\n{missing}\nbut\n{log.read_text()}"
        time.sleep(0.02)


def _compare(expected: list[str], said: str, command: str) -> None:
    missing = _missing(expected, said)
    assert missing == [], f"{command} does not say\n{missing}\nbut\n{said}"


def _missing(expected: list[str], said: str) -> list[str]:
    """Those lines that are not among what was said, in whatever order."""
    lines = [_masked(line) for line in said.splitlines()]
    return [line for line in expected if line.strip() and not any(_fits(_masked(line), each) for each in lines)]


def _fits(expected: str, line: str) -> bool:
    # A marker is a part of a line; a line of a page is a whole one.
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return bool(re.search(pattern, line))


def _masked(line: str) -> str:
    # The columns of a table are as wide as what stands in them.
    line = _QUOTED.sub(r"\1", line)
    return re.sub(" {2,}", "  ", _VARIABLE.sub("N", _TEMPORARY.sub(r"\1X", line)).strip())


def unplayed(page: Path) -> Mapping[str, int]:
    """How many blocks of each kind are only shown."""
    counts: dict[str, int] = {}
    for info, _ in blocks(page):
        if not is_played(info):
            counts[info] = counts.get(info, 0) + 1
    return counts
