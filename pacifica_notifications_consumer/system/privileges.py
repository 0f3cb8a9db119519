"""Privileges that a consumer gives up when it starts, for itself and for all that it starts."""

from __future__ import annotations

import ctypes
import logging
import os
import sys

log = logging.getLogger(__name__)

_PR_SET_NO_NEW_PRIVS = 38


def give_up_new_privileges() -> None:
    """Keep this process and its programs from gaining rights, as through ``sudo``; permanent, and only on Linux."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        log.warning("new privileges cannot be given up: %s", os.strerror(ctypes.get_errno()))
