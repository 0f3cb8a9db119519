"""The modules that a consumer seems to import, whatever its init.sh has put beside them."""

from __future__ import annotations

import os
from pathlib import Path

from pacifica_notifications_consumer.environment.package_names import imported


def test_imported(tmp_path: Path) -> None:
    """Modules of Python and of the consumer are left out."""
    (tmp_path / "__main__.py").write_text("import json\nfrom PIL import Image\n  import helper\nimport_me = 1\n")
    (tmp_path / "helper.py").write_text("\n\n\timport numpy.linalg\n")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "x.py").write_bytes(b"# \xff\nfrom\tyaml import load")
    assert imported(tmp_path) == {"PIL", "numpy", "yaml"}


def test_files_that_would_block(tmp_path: Path) -> None:
    """Pipes and endless files are left out, without waiting for them or reading them."""
    os.mkfifo(tmp_path / "helper.py")
    (tmp_path / "link.py").symlink_to("helper.py")
    (tmp_path / "endless.py").touch()
    os.truncate(tmp_path / "endless.py", 1 << 40)
    (tmp_path / "__main__.py").write_text("import PIL\n")
    assert imported(tmp_path) == {"PIL"}


def test_text_that_takes_long(tmp_path: Path) -> None:
    """Blank lines take a time in proportion to their number, and few names are looked up, none of them too long."""
    names = "".join(f"import m{number}\n" for number in range(10_000))
    (tmp_path / "__main__.py").write_text(f"import {300 * 'x'}\n{1_000_000 * chr(10)}{1_000_000 * ' '}\n{names}")
    assert len(imported(tmp_path)) == 100
