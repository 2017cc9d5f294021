"""The way back: what was replaced by what, in a file of its own that only a passphrase opens.

The file is a header (a mark, a salt), then frames: a length (4 bytes), a nonce (12 bytes), and AES-256-GCM over JSON lines, bound to
the header and the frame's number; the last frame says how many entries there are, so that a file cut short is noticed. The key comes
from the passphrase by scrypt (RFC 7914; n = 2^16, r = 8: 64 MB and some tenths of a second for every guess). Only the owner may read it.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from labkit.errors import LabError

_MARK = b"labkit vault 1\n"
_SALT, _NONCE, _LENGTH = 16, 12, 4
_FRAME = 1 << 18  # bytes of plain text gathered before they are encrypted
_LONGEST = 1 << 26  # a frame that says it is longer is damaged
_SHORTEST_PASSPHRASE = 8


class Writer:
    """Takes entries; they are encrypted and written as they gather."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        self._file, self._header = file, _MARK + os.urandom(_SALT)
        self._cipher = _cipher(passphrase, self._header)
        self._lines: list[bytes] = []
        self._size = self._frames = self.entries = 0
        file.write(self._header)

    def add(self, record: str, replacements: Iterable[tuple[str, str, str]]) -> None:
        """The replacements made in a record (its id): kind, text, what stands there now."""
        for kind, text, replacement in replacements:
            line = json.dumps({"record": record, "kind": kind, "text": text, "replacement": replacement}, ensure_ascii=False).encode()
            self._lines.append(line)
            self._size += len(line)
            self.entries += 1
        if self._size >= _FRAME:
            self._flush()

    def _flush(self, last: bool = False) -> None:
        plain = json.dumps({"entries": self.entries}).encode() if last else b"\n".join(self._lines)
        nonce = os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce, plain, _bound(self._header, self._frames, last))
        self._file.write(len(sealed).to_bytes(_LENGTH, "big") + nonce + sealed)
        self._lines, self._size, self._frames = [], 0, self._frames + 1

    def _close(self) -> None:
        if self._lines:
            self._flush()
        self._flush(last=True)


def check_passphrase(path: str | os.PathLike, passphrase: str) -> None:
    """LabError where it is too short for a new vault."""
    if len(passphrase) < _SHORTEST_PASSPHRASE:
        raise LabError(f"{path}: the passphrase has {len(passphrase)} characters; use at least {_SHORTEST_PASSPHRASE}")


@contextmanager
def writing(path: str | os.PathLike, passphrase: str) -> Iterator[Writer]:
    """A writer for a new vault; the file is there, whole, when the block ends well, and not at all when it does not.

    Raises:
        LabError: the passphrase is too short, or the file cannot be written.
    """
    path = Path(path)
    check_passphrase(path, passphrase)
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)  # for the owner alone
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            writer = Writer(file, passphrase)
            yield writer
            writer._close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror or error}; free some space or choose another place") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def read(path: str | os.PathLike, passphrase: str) -> Iterator[dict[str, Any]]:
    """The entries of a vault: `record` (id), `kind`, `text` (what it was), `replacement`.

    Raises:
        LabError: the file is missing, no vault, damaged or cut short, or the passphrase is wrong.
    """
    from cryptography.exceptions import InvalidTag

    try:
        with Path(path).open("rb") as file:
            header = file.read(len(_MARK) + _SALT)
            if not header.startswith(_MARK) or len(header) < len(_MARK) + _SALT:
                raise LabError(f"{path} is not a vault of this lab")
            cipher, count, number = _cipher(passphrase, header), 0, 0
            while True:
                nonce, sealed = _frame(file, path)
                try:
                    plain, last = cipher.decrypt(nonce, sealed, _bound(header, number, False)), False
                except InvalidTag:
                    try:
                        plain, last = cipher.decrypt(nonce, sealed, _bound(header, number, True)), True
                    except InvalidTag:
                        what = "the passphrase is wrong, or the file is damaged" if number == 0 else f"damaged in frame {number + 1}"
                        raise LabError(f"{path}: {what}") from None
                if last:
                    if json.loads(plain)["entries"] != count or file.read(1):
                        raise LabError(f"{path}: damaged, its entries are not as many as it says")
                    return
                for line in plain.split(b"\n"):
                    count += 1
                    yield json.loads(line)
                number += 1
    except FileNotFoundError:
        raise LabError(f"{path} does not exist") from None
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror or error}") from error


def _frame(file: BinaryIO, path: str | os.PathLike) -> tuple[bytes, bytes]:
    head = file.read(_LENGTH + _NONCE)
    size = int.from_bytes(head[:_LENGTH], "big")
    sealed = file.read(size) if len(head) == _LENGTH + _NONCE and size <= _LONGEST else b""
    if len(sealed) != size or not sealed:
        raise LabError(f"{path}: damaged or cut short")
    return head[_LENGTH:], sealed


def _cipher(passphrase: str, header: bytes):
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return AESGCM(Scrypt(salt=header[-_SALT:], length=32, n=1 << 16, r=8, p=1).derive(passphrase.encode()))


def _bound(header: bytes, number: int, last: bool) -> bytes:
    return header + number.to_bytes(8, "big") + bytes([last])
