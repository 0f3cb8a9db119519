"""The sandbox's cartd: stages files of the archive into carts and sends each as a tar."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Literal

import attrs

from ...http.errors import HTTPError
from ...settings.converters import counted
from .cart_tar import Layout, lay_out, write_tar
from .store import Store
from .wire import PIECE, ServiceHandler, from_json

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@attrs.define(kw_only=True, eq=False)
class Cart:
    """A cart: the files that a client has requested under a uid, and the state of their staging."""

    number: int
    uid: str
    bundle: bool
    files: list[dict[str, Any]]
    made: float = attrs.field(factory=time.time)
    status: Literal["staging", "ready", "error"] = "staging"
    message: str = ""
    layout: Layout = attrs.field(factory=dict)
    deleted: threading.Event = attrs.field(factory=threading.Event)


class Carts:
    """Creates, stages, finds and deletes carts, which exist as long as the sandbox runs."""

    def __init__(self, store: Store, *, staging_seconds: float, say: Callable[[str], None]) -> None:
        self._store = store
        self._staging_seconds = staging_seconds
        self._say = say
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._carts: list[Cart] = []
        self._threads: set[threading.Thread] = set()

    def make(self, uid: str, request: dict[str, Any]) -> None:
        """Begin to stage a cart; it hides earlier carts with the same uid."""
        cart = Cart(number=next(self._numbers), uid=uid, bundle=bool(request.get("bundle")), files=request["fileids"])
        thread = threading.Thread(target=self._run, args=(cart,), name=f"cart-{cart.number}", daemon=True)
        with self._lock:
            self._carts.append(cart)
            # The real cartd marks a cart ready after staging its last file: an empty cart never becomes ready.
            if cart.files:
                self._threads.add(thread)
                thread.start()

    def find(self, uid: str) -> Cart | None:
        """The newest cart with a uid; None if there is none."""
        with self._lock:
            return next((cart for cart in reversed(self._carts) if cart.uid == uid), None)

    def delete(self, uid: str) -> bool:
        """Delete all carts with a uid; False if there is none."""
        with self._lock:
            gone = [cart for cart in self._carts if cart.uid == uid]
            self._carts = [cart for cart in self._carts if cart.uid != uid]
            for cart in gone:
                self._discard(cart)
        return bool(gone)

    def close(self) -> None:
        """Delete all carts, and wait until all staging has stopped."""
        with self._lock:
            for cart in self._carts:
                self._discard(cart)
            self._carts.clear()
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def tar_path(self, cart: Cart) -> Path:
        """The path of the tar of a cart with ``bundle``."""
        return self._store.carts / f"{cart.number}.tar"

    def _discard(self, cart: Cart) -> None:
        cart.deleted.set()
        self.tar_path(cart).unlink(missing_ok=True)

    def _run(self, cart: Cart) -> None:
        try:
            if not cart.deleted.wait(self._staging_seconds):
                self._stage(cart)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _stage(self, cart: Cart) -> None:
        status: Literal["ready", "error"] = "ready"
        message = ""
        try:
            cart.layout = lay_out(cart.files, self._store)
            if cart.bundle:
                with self.tar_path(cart).open("wb") as out:
                    write_tar(cart.layout, cart.uid, cart.made, out, self._store)
        except (OSError, ValueError, TypeError) as error:
            status, message = "error", f"Failed to pull file({error})"
        with self._lock:
            if cart.deleted.is_set():
                self.tar_path(cart).unlink(missing_ok=True)
                return
            cart.status, cart.message = status, message
        files = counted(len(cart.files), "file")
        self._say(f"cart {cart.uid} ready: {files}" if status == "ready" else f"cart {cart.uid} failed: {message}")


def check_request(request: Any) -> None:
    """Check a request by the rules of the real cartd's JSON schema; raises `TypeError`."""
    files = request.get("fileids") if isinstance(request, dict) else None
    if not isinstance(files, list):
        raise TypeError("'fileids' is a required property and must be a list")
    for file in files:
        good = (
            isinstance(file, dict)
            and isinstance(file.get("id"), int | str)
            and not isinstance(file["id"], bool)
            and all(isinstance(file.get(key), str) for key in ("path", "hashtype", "hashsum"))
        )
        if not good:
            raise TypeError(f"{file!r} lacks 'id', 'path', 'hashtype' or 'hashsum', or one has the wrong type")


class CartHandler(ServiceHandler):
    """Answers ``/UID``."""

    carts: Carts
    store: Store

    def route(self) -> None:
        """Answer a request."""
        if len(self.segments) > 1:
            raise ValueError("the path has more segments than the cart's uid")
        uid = self.segments[0] if self.segments else ""
        methods = {"POST": self._make, "HEAD": self._head, "GET": self._get, "DELETE": self._delete}
        if self.command not in methods:
            raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "Specified method is invalid for this resource")
        methods[self.command](uid)

    def _make(self, uid: str) -> None:
        if self.content_type() not in ("application/json", "text/javascript"):
            reason = "Expected an entity of content type application/json, text/javascript"
            raise HTTPError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)
        try:
            request = from_json(self.document())
        except ValueError as error:
            raise HTTPError(HTTPStatus.BAD_REQUEST, "Invalid JSON document") from error
        if not uid:
            raise HTTPError(HTTPStatus.NOT_FOUND, "Missing parameters: uid")
        check_request(request)
        self.carts.make(uid, request)
        self.reply_json(HTTPStatus.CREATED, {"message": "Cart Processing has begun"})

    def _head(self, uid: str) -> None:
        if not uid:
            raise ValueError("no uid")
        cart = self.carts.find(uid)
        if cart is None:
            status, state, message = HTTPStatus.NOT_FOUND, "error", f"No cart with uid {uid} found"
        else:
            state, message = cart.status, cart.message
            status = HTTPStatus.INTERNAL_SERVER_ERROR if state == "error" else HTTPStatus.NO_CONTENT
        # A header field is one line in Latin-1.
        message = " ".join(message.split()).encode("latin-1", "replace").decode("latin-1")
        self.reply(status, b"", "application/json", X_Pacifica_Status=state, X_Pacifica_Message=message)

    def _get(self, uid: str) -> None:
        if not uid:
            self.reply_json(HTTPStatus.OK, {"message": "Pacifica Cartd Interface Up and Running"})
            return
        cart = self.carts.find(uid)
        if cart is None:
            raise HTTPError(HTTPStatus.NOT_FOUND, "The cart does not exist or has already been deleted")
        if cart.status != "ready":
            self.reply(HTTPStatus.ACCEPTED, b"The cart is not ready for download.", "application/json")
            return
        name = self.query.get("filename", datetime.now().strftime("data_%Y_%m_%d_%H_%M_%S.tar"))
        # A line break in the name would let the client inject a header field.
        shown = "".join(character for character in name if character.isprintable())
        shown = shown.encode("latin-1", "replace").decode("latin-1")
        headers = {"Content-Type": "application/octet-stream", "Content-Disposition": f"attachment; filename={shown}"}
        if cart.bundle:
            with self.carts.tar_path(cart).open("rb") as tar:
                self._send_file(tar, headers)
        else:
            with self.stream(headers) as out:
                write_tar(cart.layout, name.replace(".tar", ""), cart.made, out, self.store)

    def _send_file(self, file: IO[bytes], headers: dict[str, str]) -> None:
        status = os.fstat(file.fileno())
        start, end = _wanted(self.headers.get("Range", ""), status.st_size)
        partial = (start, end) != (0, status.st_size)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        headers |= {"Last-Modified": formatdate(status.st_mtime, usegmt=True), "Accept-Ranges": "bytes"}
        headers["Content-Length"] = str(end - start)
        if partial:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{status.st_size}"
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        self.streaming = True
        file.seek(start)
        while start < end and (piece := file.read(min(PIECE, end - start))):
            self.wfile.write(piece)
            start += len(piece)
        self.wfile.flush()

    def _delete(self, uid: str) -> None:
        if not uid:
            raise ValueError("no uid")
        if not self.carts.delete(uid):
            raise HTTPError(HTTPStatus.NOT_FOUND, "Not Found")
        self.reply_json(HTTPStatus.OK, {"message": "Cart Deleted Successfully"})


def _wanted(header: str, size: int) -> tuple[int, int]:
    """The begin and the end of the bytes that a ``Range`` requests; all bytes if it is not a single range."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or header.strip() == "bytes=-":
        return 0, size
    if not match[1]:
        return max(0, size - int(match[2])), size
    start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
    if start >= end:
        raise HTTPError(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the cart has {size} bytes")
    return start, end
