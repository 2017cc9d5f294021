"""Files that are either whole or not there, and their hashes."""

import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from labkit.errors import LabError

T = TypeVar("T")


@contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, fsync it and rename it into place.

    Raises:
        LabError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        yield part
        os.chmod(part, 0o666 & ~_umask())
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        _fsync_folder(path.parent)
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror or error}; free some space or choose another place") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_lines(path: str | os.PathLike, read: Callable[[Any], T]) -> list[T]:
    """What `read` makes of each line of a JSONL file; empty lines are left out.

    Raises:
        LabError: the file is missing or not UTF-8, or a line is no JSON or refused by `read`: names file and line.
    """
    found = []
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    found.append(read(json.loads(line)))
                except (ValueError, LabError) as error:
                    raise LabError(f"{path}, line {number}: {error}") from None
    except FileNotFoundError:
        raise LabError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise LabError(f"{path} is not UTF-8: {error}") from None
    return found


def read_toml(path: str | os.PathLike) -> dict[str, Any]:
    """Read TOML; a file that is missing or no TOML is a LabError that names it."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"{path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path} is not valid TOML: {error}") from error


def read_json(path: str | os.PathLike) -> Any:
    """Read JSON; a file that is not JSON is a LabError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"{path} does not exist") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise LabError(f"{path} is not valid JSON: {error}") from error


def sha256_of(path: str | os.PathLike) -> str:
    """The file's sha256 as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """One spelling for one value: sorted keys, no spaces, UTF-8. What hashes are taken over."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def short(digest: str) -> str:
    """The first 8 hexadecimal digits, as shown to people."""
    return digest[:8]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
