"""The messages of the warm process and its children, which belong to the user that runs the consumer's code.

That code can make them say anything, so a message counts only if it has one of the forms below, no file descriptors,
and a sender that may send it. The kernel names the sender (``SCM_CREDENTIALS``); no message contains a process id.
"""

from __future__ import annotations

import os
import re
import socket
import struct

from ...system.account import Account
from ...system.processes import ProcessLost

#: The process, user and group ids of a sender.
_UCRED = struct.Struct("=iII")
_LONGEST = 256
#: The end is the exit status or the negative number of the signal, the processor time in seconds, and ru_maxrss.
_FORM = re.compile(rb"ready \d{1,6}|started|error \d{1,3}|ended (\d{1,3}|-([1-5]?\d|6[0-4])) \d{1,9}\.\d{6} \d{1,12}")


def open_channel() -> tuple[socket.socket, socket.socket]:
    """Make a socket pair for messages; the first end receives them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs


def receive(source: socket.socket, run_as: Account, *subjects: str, sender: int | None = None) -> tuple[int, list[str]]:
    """Receive a message with one of the subjects from a user, or only from one process; returns sender and words.

    ConnectionError means that the other end is closed, `ProcessLost` that the message cannot be true.
    """
    # The buffer holds the credentials only, so the kernel discards file descriptors.
    data, ancillary, flags, _ = source.recvmsg(_LONGEST, socket.CMSG_SPACE(_UCRED.size))
    if not data:
        raise ConnectionResetError
    whole = not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
    if whole and [kind for _, kind, _ in ancillary] == [socket.SCM_CREDENTIALS]:
        pid, uid, _ = _UCRED.unpack(ancillary[0][2])
        allowed = uid == (run_as.uid if run_as.name else os.getuid()) and sender in (None, pid)
        if allowed and _FORM.fullmatch(data) and (words := data.decode().split(" "))[0] in subjects:
            return pid, words
    raise ProcessLost(f"the warm process has sent a message that cannot be true: {data!r:.100}")
