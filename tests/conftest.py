"""What all tests share: their commands can be interrupted, wherever the tests run, and end with them."""

import signal
import sys

from tests.support.machine import reaper

# A shell makes its background jobs ignore SIGINT, and every command that the tests start would inherit that: a program
# that leaves SIGINT to Python, such as the documented one behind Flask, would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)
reaper.start()
# jsonschema imports this for formats that our descriptions do not have, and it takes 3 s in each process.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
