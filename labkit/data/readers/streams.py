"""The bytes of a file, decompressed where it is compressed, within limits.

What a file is compressed with is told by its first bytes, never by its name alone.
"""

import bz2
import gzip
import lzma
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

from labkit.data.readers import Limits, Notes, megabytes
from labkit.errors import LabError

ENDINGS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}

HEAD = 1 << 18  # bytes that are looked at to tell what a file is


def compression_of(head: bytes) -> str:
    """`gzip`, `zstd`, `bzip2`, `xz`, or the empty text."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


class Stream:
    """An open file. `head` is its first bytes (up to `HEAD`), which `read` gives again.

    Raises:
        LabError: the compressed data is broken, cut off, or grows beyond the limits.
    """

    def __init__(self, name: str, path: Path, limits: Limits, notes: Notes) -> None:
        self.name, self.path, self._limits, self._notes = name, path, limits, notes
        self._raw: IO[bytes] = path.open("rb")
        notes.size = path.stat().st_size
        self.compression = notes.compression = compression_of(self._raw.read(8))
        self._raw.seek(0)
        self._inner: Any = _decompressed(self._raw, self.compression)
        self._given = 0
        self.head = b""
        self._failure: LabError | None = None
        pieces = []
        try:
            while self._given < HEAD and (piece := self._read(HEAD - self._given)):
                pieces.append(piece)
        except LabError as error:
            self._failure = error  # what came before it is given first
        except BaseException:
            self.close()
            raise
        self.head = self._rest = b"".join(pieces)
        if self._failure and not self.head:
            self.close()
            raise self._failure

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, no byte at the end."""
        if self._rest:
            piece, self._rest = self._rest[:size], self._rest[size:]
            return piece
        if self._failure:
            raise self._failure
        return self._read(size)

    def blocks(self, size: int = 1 << 18):
        """The bytes from here to the end, in pieces of up to `size`."""
        while piece := self.read(size):
            yield piece

    def seekable(self) -> IO[bytes]:
        """The whole file from its beginning as one that can be read at any place; decompressed into a temporary file if need be."""
        if not self.compression:
            self._raw.seek(0)
            return self._raw
        copy = tempfile.TemporaryFile()
        copy.write(self._rest)
        self._rest = b""
        shutil.copyfileobj(self, copy, 1 << 20)
        copy.seek(0)
        return copy

    def close(self) -> None:
        if self._inner is not self._raw:
            self._inner.close()
        self._raw.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, size: int) -> bytes:
        try:
            piece = bytes(self._inner.read1(size))  # not more than one step: what was read before an error would be lost with it
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if not self.compression or isinstance(error, PermissionError | IsADirectoryError):
                raise
            said = "is cut off" if isinstance(error, EOFError) or "runcated" in str(error) else "is broken"
            raise LabError(f"{self.name}: the {self.compression} data {said} after {self._given:,} decompressed bytes") from None
        self._given += len(piece)
        self._notes.bytes_read = self._raw.tell()
        if self.compression:
            self._check_growth()
        return piece

    def _check_growth(self) -> None:
        limits, read = self._limits, self._notes.bytes_read
        if self._given > limits.decompressed:
            raise LabError(f"{self.name}: decompresses to more than {megabytes(limits.decompressed)}; unpack and divide it")
        if self._given > limits.free + limits.ratio * read:
            raise LabError(f"{self.name}: decompresses to more than {limits.ratio} times its size; that is not taken for data")


def _decompressed(raw: IO[bytes], compression: str) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if compression == "bzip2":
        return bz2.BZ2File(raw)
    if compression == "xz":
        return lzma.LZMAFile(raw)
    if compression == "zstd":
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd")
    return raw
