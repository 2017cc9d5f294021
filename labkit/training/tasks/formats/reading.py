"""Lines of text files with their numbers, JSON lines, and data sets of the hub; errors name file and line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError

if TYPE_CHECKING:
    from datasets import DatasetDict


class Broken(Exception):
    """A row that cannot be used, and why."""


class Strictness:
    """What happens with a broken row: it is refused with a LabError, or, where that was asked for, left out and listed."""

    def __init__(self, leave_out: bool) -> None:
        self.leave_out = leave_out
        self.left_out: list[str] = []

    def broken(self, path: Path, line: int, why: str) -> None:
        place = f"{path}, line {line}: {why}"
        if not self.leave_out:
            raise LabError(f"{place}; mend it, or leave such rows out with leave_out_broken=True")
        self.left_out.append(place)


def lines(path: Path, encoding: str = "utf-8-sig") -> Iterator[tuple[int, str]]:
    """(number, line) without its end, LF or CRLF. Only these end a line: published texts hold other characters that Unicode calls a
    line's end, such as U+2028 or U+0085. A byte-order mark is taken away.

    Raises:
        LabError: the file is missing or not in this encoding.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    text = raw.decode(encoding if number == 1 else encoding.removesuffix("-sig"))
                except UnicodeDecodeError as error:
                    raise LabError(f"{path}, line {number} is not {encoding.removesuffix('-sig').upper()} ({error.reason} at byte "
                                   f"{error.start}); save the file as UTF-8 or say its encoding") from None
                yield number, text.removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        raise LabError(f"{path} does not exist") from None
    except (IsADirectoryError, PermissionError) as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from None
    except LookupError:
        raise LabError(f"there is no encoding {encoding!r}") from None


def json_lines(path: Path, strict: Strictness) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, object) of each line that is not blank."""
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            strict.broken(path, number, f"not JSON: {error}")
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            strict.broken(path, number, "not a JSON object")


def text_of(row: dict[str, Any], key: str) -> str:
    """The text under `key`, not blank; `Broken` else."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Broken(f"{key!r} must be a text that is not empty")
    return value


def find(folder: Path, *names: str) -> Path | None:
    """The first of these files that is in the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def split_files(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """`train`, `validation` (or `dev`) and `test` with one of these endings, those that are there; LabError where none is."""
    names = {"train": ("train",), "validation": ("validation", "dev", "valid"), "test": ("test",)}
    found = {split: find(folder, *(stem + ending for stem in stems for ending in endings)) for split, stems in names.items()}
    there = {split: path for split, path in found.items() if path is not None}
    if not there:
        raise LabError(f"{folder} has none of train, validation (or dev) and test with the ending {' or '.join(endings)}")
    return there


def from_hub(repository: str, configuration: str | None = None, revision: str | None = None) -> "DatasetDict":
    """A data set of the hub: from its local cache, or with `LABKIT_ONLINE=1` from the network.

    Raises:
        LabError: it is in neither.
    """
    from datasets import DownloadConfig, load_dataset

    online = os.environ.get("LABKIT_ONLINE") == "1"
    name = repository if configuration is None else f"{repository} ({configuration})"
    try:
        return load_dataset(repository, configuration, revision=revision, download_config=DownloadConfig(local_files_only=not online))
    except Exception as error:  # the hub's client raises a dozen kinds: network, cache, names, scripts
        hint = "is the network there?" if online else "set LABKIT_ONLINE=1 to fetch it, or give the folder of its files"
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise LabError(f"data set {name} did not come from {'the hub' if online else 'the local cache'} ({said}); {hint}") from error
