"""Make what a release consists of, the same bytes on every machine: python tools/release.py [--output dist].

The wheel and the source distribution are made of the last commit, whatever else lies in the working tree, with the
commit's time on every file. A bill of materials (CycloneDX) names what an installation of the wheel brings along, a
second one what it does with its extras, and SHA256SUMS has the digests of all four.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
#: Those of which there is a bill. What gssapi needs can only be installed where Kerberos is.
_EXTRAS = "celery,uv"


def main() -> int:
    """Make a release; returns the exit status."""
    parser = argparse.ArgumentParser(description="Make the wheel, the source distribution and their bill of materials.")
    parser.add_argument("--output", type=Path, default=_ROOT / "dist", help="where they go (dist)")
    output: Path = parser.parse_args().output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if _git("status", "--porcelain"):
        print("what is not committed is left out", file=sys.stderr)
    time = int(_git("log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory(prefix="release-") as temporary:
        source, made = Path(temporary, "source"), Path(temporary, "made")
        with tarfile.open(fileobj=io.BytesIO(_git_bytes("archive", "HEAD"))) as tar:
            tar.extractall(source, filter="data")
        _run("-m", "build", "--no-isolation", "--outdir", str(made), str(source), time=time)
        for archive in made.glob("*.tar.gz"):
            _normalise(archive, time)
        (wheel,) = made.glob("*.whl")
        stem = wheel.name.partition("-py3")[0]
        _write_bill(wheel, "", made / f"{stem}.cdx.json", Path(temporary, "environment"))
        _write_bill(wheel, _EXTRAS, made / f"{stem}-with-extras.cdx.json", Path(temporary, "with extras"))
        sums = ""
        for path in sorted(made.iterdir()):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            sums += f"{digest}  {path.name}\n"
            (output / path.name).write_bytes(path.read_bytes())
    (output / "SHA256SUMS").write_text(sums, encoding="utf-8")
    print(sums, end="")
    return 0


def _normalise(archive: Path, time: int) -> None:
    """Give a source distribution an order, times and owners that do not depend on who made it, and when."""
    packed = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = time, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    archive.write_bytes(gzip.compress(packed.getvalue(), mtime=time))


def _write_bill(wheel: Path, extras: str, bill: Path, environment: Path) -> None:
    """Write down what an environment holds into which nothing but the wheel was installed, with some extras."""
    _run("-m", "venv", "--without-pip", str(environment))
    # By its name, since the path of a file would be written down, too.
    name, version = wheel.name.split("-")[:2]
    _run(
        *("-m", "uv", "pip", "install", "--python", str(environment), "--find-links", str(wheel.parent)),
        f"{name}[{extras}]=={version}" if extras else f"{name}=={version}",
    )
    _run(
        *("-m", "cyclonedx_py", "environment", "--output-reproducible", "--output-format", "JSON"),
        *("--output-file", str(bill), str(environment)),
    )


def _run(*arguments: str, time: int | None = None) -> None:
    environ = os.environ | ({} if time is None else {"SOURCE_DATE_EPOCH": str(time)})
    done = subprocess.run(
        [sys.executable, *arguments], env=environ, check=False, capture_output=True, text=True, umask=0o022
    )
    if done.returncode:
        sys.exit(f"release: {' '.join(arguments[:2])} failed:\n{done.stdout}{done.stderr}")


def _git(*arguments: str) -> str:
    return _git_bytes(*arguments).decode()


def _git_bytes(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(_ROOT), *arguments], check=True, capture_output=True).stdout  # noqa: S607


if __name__ == "__main__":
    sys.exit(main())
