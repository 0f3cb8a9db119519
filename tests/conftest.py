"""What all tests share: their commands can be interrupted, wherever the tests run, and end with them."""

import signal

from tests.support.machine import reaper

# A shell makes its background jobs ignore SIGINT, and every command that the tests start would inherit that: a program
# that leaves SIGINT to Python, such as the documented one behind Flask, would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)
reaper.start()
