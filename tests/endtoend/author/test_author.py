"""What an author does: make a consumer, test it, check it, pack it, try it on a sandbox, and deploy it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import requests

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.browser import browsing, photograph
from tests.endtoend.conftest import START, TOOL, Operator, Outcome, event, pack, wait_until
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import ROOT


def said(outcome: Outcome) -> str:
    assert outcome.status == 0, outcome.stderr
    return outcome.stdout


@pytest.mark.parametrize("template", ["minimal", "uppercase"])
def test_from_nothing_to_a_new_transaction(operator: Operator, quick_python: Path, template: str) -> None:
    """Each template works as it is: its tests pass, nothing is wrong with it, it is packed, and run on a sandbox."""
    assert "next steps" in said(operator.run(TOOL, "init", "mine", "--template", template)).lower()
    tests = operator.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine")
    assert " passed" in said(tests)
    told = said(operator.run(TOOL, "check", "mine", "--python", quick_python))
    assert told.splitlines()[-1] == "mine: 1 note"
    assert "left out: test_consumer.py (tests)" in said(operator.run(TOOL, "pack", "mine"))

    (operator.home / "notes.txt").write_text("straße\n")
    uploaded = operator.run(
        TOOL, "sandbox", "upload", "notes.txt", "mine/jsonpath2.txt", "--key-value", "Sample=B", "--save", "n.json"
    )
    assert said(uploaded) == "transaction 1: 2 files\nits notification: n.json\n"
    for consumer in ("mine", "consumer.zip"):
        run = operator.run(TOOL, "run", consumer, "n.json", "--sandbox", "pacifica-sandbox", "--python", quick_python)
        assert run.status == 0, run.stderr
        number = 2 if consumer == "mine" else 3
        key, files = ("Names of", 1) if template == "minimal" else ("Transactions._id", 2)
        made = f"run: uploaded transaction {number}: {files} file{'' if files == 1 else 's'}; {key} = 1\n"
        assert made in run.stderr
    with Sandbox(operator.home / "pacifica-sandbox") as sandbox:
        expected = {"names.txt": b"jsonpath2.txt\nnotes.txt\n"}
        if template == "uppercase":
            jsonpath = (operator.home / "mine" / "jsonpath2.txt").read_text().upper().encode()
            expected = {"notes.txt": b"STRASSE\n", "jsonpath2.txt": jsonpath}
        assert sandbox.read(3) == expected


def test_init_overwrites_nothing(operator: Operator) -> None:
    """A directory with something in it is refused, and left as it is."""
    (operator.home / "mine").mkdir()
    (operator.home / "mine" / "__main__.py").write_text("precious")
    refused = operator.run(TOOL, "init", "mine")
    assert (refused.status, "is not empty" in refused.error(TOOL)) == (73, True)
    assert [path.read_text() for path in (operator.home / "mine").iterdir()] == ["precious"]


def test_packing_what_the_code_refers_to(operator: Operator) -> None:
    """What is packed, included and left out is told, also by an output that can only show ASCII."""
    files = ("größe.zip", ".station/a.ini", "test_station.py", "test_other.py", "other.zip")
    for name in files:
        (operator.home / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (operator.home / "mine" / name).touch()
    (operator.home / "mine" / "incoming").mkdir()
    main = "import sys, test_station\nopen('größe.zip'), open(sys.argv[0] + '/.station/a.ini')\n"
    (operator.home / "mine" / "__main__.py").write_text(main, encoding="utf-8")
    packing = operator.run(TOOL, "pack", "mine", "--include", "other.zip", variables={"PYTHONIOENCODING": "ascii"})
    assert said(packing).splitlines()[:-1] == [
        "  .station/a.ini",
        "  __main__.py",
        r"  gr\xf6\xdfe.zip",
        "  incoming/",
        "  other.zip",
        "  test_station.py",
        "  left out: test_other.py (tests)",
    ]
    assert packing.stdout.splitlines()[-1].startswith("consumer.zip: 5 files, ")
    # A directory that is checked is as it would be packed.
    checking = operator.run(TOOL, "check", "mine", "--no-environment")
    assert said(checking) == "mine: no faults found\n"
    missing = operator.run(TOOL, "pack", "mine", "--include", "more.zip")
    assert (missing.status, missing.error(TOOL)) == (65, "more.zip is not in mine; give its path below this directory")


@pytest.mark.skipif(sys.platform != "linux", reason="the start command needs Linux")
def test_special_files_are_refused(operator: Operator) -> None:
    """A named pipe in a consumer's directory, or in the place of an archive, ends each command in a sentence."""
    pack(operator.home / "mine" / "consumer.zip", {})
    for path, words in (("mine/__main__.py", "remove it"), ("pipe.zip", "copy it into a file")):
        os.mkfifo(operator.home / path)
        given = path.partition("/")[0]
        (operator.home / "n.json").write_bytes(event(1))
        for command in (["check", given, "--no-environment"], ["run", given, "n.json"], ["pack", given]):
            refused = operator.run(TOOL, *command)
            expected = f"{path} is a named pipe; {words}"
            if command == ["pack", "pipe.zip"]:
                expected = "pipe.zip is not a directory; name the directory with the consumer's __main__.py"
            assert (refused.status, expected in refused.stdout + refused.stderr) == (65, True), command
    refused = operator.run(START, "pipe.zip", "--username", "alice")
    assert (refused.status, refused.error(START)) == (65, "pipe.zip is a named pipe; copy it into a file")
    assert operator.leftovers() == []


@pytest.mark.skipif(sys.platform != "linux", reason="the start command needs Linux")
@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}], ids=["ascii", "C"])
def test_names_that_are_not_utf8(operator: Operator, quick_python: Path, variables: Mapping[str, str]) -> None:
    """Each command says in a sentence what it cannot do with such a name, and does what it can."""
    directory, archive = os.fsdecode(b"c\xff"), os.fsdecode(b"c\xff.zip")
    (operator.home / directory).mkdir()
    (operator.home / directory / "__main__.py").write_text("import sys\nsys.argv\n")
    (operator.home / "n.json").write_bytes(event(1))

    def run(program: str, *arguments: str) -> Outcome:
        return operator.run(program, *arguments, variables=variables)

    assert said(run(TOOL, "pack", directory, "--output", archive)).startswith("  __main__.py\nc\\udcff.zip: 1 file, ")
    for consumer, shown in ((directory, r"c\udcff"), (archive, r"c\udcff.zip")):
        assert said(run(TOOL, "check", consumer, "--no-environment")) == f"{shown}: no faults found\n"
        document = json.loads(said(run(TOOL, "check", consumer, "--no-environment", "--output", "json")))
        assert document["consumer"] == consumer
        flags = ("--python", str(quick_python), "--state-dir", f"state of {len(shown)}")
        assert run(TOOL, "run", consumer, "n.json", *flags).status == 0
    advice = r"rename c\udcff.zip, or set --name (PACIFICA_NAME)"
    unnamed = run(START, archive, "--username", "alice")
    assert (unnamed.status, unnamed.error(START).rpartition("; ")[2]) == (78, advice)
    missing = run(START, os.fsdecode(b"\xff.zip"), "--username", "alice", "--name", "mine")
    assert (missing.status, missing.error(START)) == (
        65,
        r"cannot read \udcff.zip: No such file or directory; check the path",
    )
    (operator.home / directory / os.fsdecode(b"\xfe")).touch()
    for refused in (run(TOOL, "pack", directory), run(TOOL, "run", directory, "n.json", "--name", "mine")):
        assert (refused.status, refused.error(TOOL)) == (65, r"the name of c\udcff/\udcfe is not UTF-8; rename it")
    found = run(TOOL, "check", directory, "--no-environment")
    assert (found.status, r"the name of c\udcff/\udcfe is not UTF-8; rename it" in found.stdout) == (65, True)
    assert operator.leftovers() == []


def test_check_finds_what_is_wrong(operator: Operator, quick_python: Path) -> None:
    """What is wrong is said in text and in JSON, and in the exit status; the environment goes in any case."""
    bad = pack(operator.home / "bad.zip", {"__main__.py": "import sys, nowhere\nsys.argv\n", "jsonpath2.txt": "$"})
    found = operator.run(TOOL, "check", bad, "--python", quick_python, "--output", "json")
    assert found.status == 65
    (finding,) = json.loads(found.stdout)["findings"]
    assert (finding["level"], finding["place"]) == ("error", "__main__.py:1")
    nested = pack(operator.home / "nested.zip", {"consumer/__main__.py": ""})
    told = operator.run(TOOL, "check", nested)
    assert (told.status, "not at the top" in told.stdout) == (65, True)
    slip = pack(operator.home / "slip.zip", {"__main__.py": "import sys\nsys.argv\n", "requirements.txt": "reqests\n"})
    resolved = operator.run(TOOL, "check", slip, "--python", quick_python)
    assert (resolved.status, "did you mean 'requests'?" in resolved.stdout) == (65, True)
    missing = operator.run(TOOL, "check", "nothing.zip")
    assert (missing.status, "cannot read nothing.zip: No such file" in missing.stdout) == (65, True)
    assert operator.leftovers() == []


def test_check_is_as_strict_as_start(operator: Operator, quick_python: Path) -> None:
    """The limits of archives are those of the settings, and init.sh may no more than when it is deployed."""
    script = "grep -q 'NoNewPrivs:.*1' /proc/self/status"
    archive = pack(operator.home / "c.zip", {"__main__.py": "import sys\nsys.argv\n", "init.sh": script})
    refused = operator.run(TOOL, "check", archive, "--archive-size", "1")
    assert (refused.status, "the limit is 1" in refused.stdout) == (65, True)
    # Only Linux has what takes the privileges away.
    for flags, status in (([], 0 if sys.platform == "linux" else 65), (["--allow-new-privileges"], 65)):
        assert operator.run(TOOL, "check", archive, "--python", quick_python, *flags).status == status


def test_check_explains_a_filter(operator: Operator) -> None:
    """A notification that does not match is explained, and told by the exit status."""
    text = '$["data"][*][?(@["destinationTable"] = "Files")]'
    archive = pack(operator.home / "c.zip", {"__main__.py": "import sys\nsys.argv\n", "jsonpath2.txt": text})
    (operator.home / "n.json").write_bytes(event(1))
    told = operator.run(TOOL, "check", archive, "--no-environment", "--against", "n.json")
    assert told.status == 66
    assert "n.json: it does not match" in told.stdout
    assert "holds for 0 of 2 values" in told.stdout
    assert told.stdout.splitlines()[-1] == f"{archive}: 1 notification not matched"


@pytest.mark.skipif(sys.platform != "linux", reason="the start command needs Linux")
def test_misnamed_parts_are_told_by_all_commands(operator: Operator, quick_python: Path) -> None:
    """With a misnamed filter every notification would match, so check, pack, run and the start command say it."""
    directory = operator.home / "mine"
    directory.mkdir()
    (directory / "__main__.py").write_text("import sys\nsys.argv\n")
    (directory / "JSONPath2.txt").write_text('$["nothing"]')
    (operator.home / "n.json").write_bytes(event(1))
    words = "JSONPath2.txt: it is ignored, since the name must be jsonpath2.txt, and every notification matches"
    run = ("run", "mine", "n.json", "--python", str(quick_python))
    for command in (("check", "mine", "--no-environment"), ("pack", "mine"), run):
        outcome = operator.run(TOOL, *command)
        assert (outcome.status, words in outcome.stdout + outcome.stderr) == (0, True), outcome
    # It fails, for another reason, after it has opened the archive.
    started = operator.run(START, "consumer.zip", "--username", "alice", "--python", "no-such-python")
    assert words in started.stderr


def test_parts_that_cannot_be_used_are_told_by_pack(operator: Operator) -> None:
    """What the start command would refuse, pack warns of with the same sentence."""
    directory = operator.home / "größe"
    directory.mkdir()
    (directory / "__main__.py").write_text("import sys\nsys.argv\n")
    faults = {
        "init.sh": (
            b"#!/bin/sh\r\nexit 0\r\n",
            "init.sh has the line endings of Windows; save it with Unix line endings",
        ),
        "jsonpath2.txt": (b"", "jsonpath2.txt is empty; write a JSONPath into it"),
        "preload.txt": (b"2nd-module!", "preload.txt is not usable: "),
    }
    for name, (content, words) in faults.items():
        (directory / name).write_bytes(content)
        outcome = operator.run(TOOL, "pack", directory)
        assert (outcome.status, f"  warning: {words}" in outcome.stdout) == (0, True), outcome
        (directory / name).unlink()
    assert "warning" not in operator.run(TOOL, "pack", directory).stdout


def test_check_does_not_blame_the_requirements_for_the_cache(operator: Operator, quick_python: Path) -> None:
    """A fault of the machine is not reported as one of requirements.txt, and one of its lines is, with its number."""
    archive = pack(operator.home / "c.zip", {"__main__.py": "import sys\nsys.argv\n", "requirements.txt": "\nsix\n"})
    (operator.home / "file").touch()
    check = ("check", archive, "--python", quick_python, "--no-venv-cache", "--installer", "uv")
    told = operator.run(TOOL, *check, variables={"UV_CACHE_DIR": str(operator.home / "file")})
    assert f"error: {archive}: uv cannot use its cache: " in told.stdout
    pack(archive, {"__main__.py": "import sys\nsys.argv\n", "requirements.txt": "\nsix==1.0 --hash=md5:00\n"})
    told = operator.run(TOOL, *check)
    assert "error: requirements.txt:2: the hash 'md5:00' is not one that every installer checks" in told.stdout


def test_files_are_uploaded_from_a_browser(operator: Operator, tmp_path: Path) -> None:
    """The sandbox's page takes files and key-values, shows the transaction, and offers its notification."""
    ports = [f"--{name}-port=0" for name in ("producer", "cartd", "ingest", "policy")]
    command = operator.command(TOOL, "sandbox", "archive", *ports)
    command.wait_for("Stop it with Ctrl-C")
    found = re.search(r"To upload files: (\S+) in", command.stdout)
    assert found
    files = [tmp_path / "one.txt", tmp_path / "größe.bin"]
    for file in files:
        file.write_bytes(file.name.encode())
    with browsing(tmp_path / "profile") as browser:
        browser.get(found[1])
        browser.find_element("id", "files").send_keys("\n".join(map(str, files)))
        browser.find_element("name", "key_values").send_keys("Sample=B-17, Kind=a=b")
        photograph(browser, "sandbox")
        browser.find_element("css selector", "button").click()
        wait_until(lambda: "Announced as metadata.ingest.1" in browser.page_source, "the upload to be said")
        wait_until(lambda: "größe.bin" in browser.find_element("id", "transactions").text, "the transaction")
        assert "Sample = B-17; Kind = a=b" in browser.find_element("id", "transactions").text
        photograph(browser, "sandbox-uploaded")
    notification = requests.get(f"{found[1]}/transactions/1/notification.json", timeout=DEADLINE).json()
    assert {row["name"] for row in notification["data"] if row["destinationTable"] == "Files"} == {
        f.name for f in files
    }
    # What another site could have a browser send is refused, and so are names that lead elsewhere.
    assert requests.post(f"{found[1]}/uploads", timeout=DEADLINE).status_code == 403
    ours = {"Sandbox-Page": "yes"}
    upload = requests.post(f"{found[1]}/uploads", headers=ours, timeout=DEADLINE).json()["upload"]
    escaping = requests.put(f"{found[1]}/uploads/{upload}/%2e%2e%2fout", data=b"x", headers=ours, timeout=DEADLINE)
    assert escaping.status_code == 400
    command.stop()
    assert operator.leftovers() == []


#: What is typed, up to the cursor, and what is to be among the completions.
COMPLETIONS = [
    (["pacifica-notifications-consumer", "ch"], "check"),
    (["pacifica-notifications-consumer", "jobs", "re"], "retry"),
    (["pacifica-notifications-consumer", "jobs", "list", "--sta"], "--state"),
    (["pacifica-notifications-consumer", "jobs", "list", "--state", "de"], "dead"),
    (["pacifica-notifications-consumer", "sandbox", "upload", "--pro"], "--project"),
    (["start-pacifica-notifications-consumer", "--tls-"], "--tls-cert"),
]


@pytest.mark.parametrize(("typed", "wanted"), COMPLETIONS, ids=[" ".join(row[0]) for row in COMPLETIONS])
def test_bash_completes(operator: Operator, typed: list[str], wanted: str) -> None:
    """A real bash completes commands, subcommands, flags and what may follow a flag."""
    script = operator.home / "completion"
    script.write_text(said(operator.run(TOOL, "completion", "bash")))
    words = " ".join(f"'{word}'" for word in typed)
    ask = (
        f"source {shlex.quote(str(script))}; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; "
        f"_{typed[0].replace('-', '_')}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    told = subprocess.run(["/bin/bash", "--norc", "-c", ask], capture_output=True, text=True, check=True)
    assert wanted in told.stdout.split()
    assert told.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_understand_their_completion(operator: Operator, shell: str) -> None:
    """Where they are installed, they read it without a complaint."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    script = operator.home / "completion"
    script.write_text(said(operator.run(TOOL, "completion", shell)))
    prepared = "autoload -U compinit && compinit -u; " if shell == "zsh" else ""
    told = subprocess.run(
        [program, "-c", f"{prepared}source {shlex.quote(str(script))}"], capture_output=True, text=True, check=True
    )
    assert told.stderr == ""


def test_manual_pages(operator: Operator, tmp_path: Path) -> None:
    """Sphinx builds a manual page of each command, with all its flags, that groff (where it is) reads silently."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "man", "docs", str(tmp_path / "man")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=DEADLINE)
    for program in (TOOL, "start-pacifica-notifications-consumer"):
        page = tmp_path / "man" / f"{program}.1"
        text = page.read_text().replace("\\-", "-")
        help_text = said(operator.run(program, "--help-all" if program.startswith("start") else "--help"))
        for flag in re.findall(r"(?<=\s)--[a-z-]+", help_text):
            assert flag in text, flag
        assert "Exit status: 0" in text
        if groff := shutil.which("groff"):
            shown = subprocess.run([groff, "-man", "-Tutf8", "-ww", page], capture_output=True, text=True, check=True)
            assert (shown.stderr, program in shown.stdout) == ("", True)
