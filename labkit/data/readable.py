"""Rows of codes as text that a language model can read: each column has a sentence, each code its words, in English and Chinese."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import LabError

FOLDER = Path(__file__).with_name("codes")


@dataclass(frozen=True)
class Column:
    """A column's sentence by language, with `{}` for its value, and the words of its codes by language; without codes the value
    stands as it is."""

    sentence: dict[str, str]
    words: dict[str, dict[str, str]]


def columns(name: str) -> list[Column]:
    """The columns of a code book by its name (`german_credit`), in the order of the file's columns.

    Raises:
        LabError: there is no such code book.
    """
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        raise LabError(f"no code book {name!r}; there are {', '.join(sorted(each.stem for each in FOLDER.glob('*.toml')))}")
    return [Column({"en": entry["en"], "zh": entry["zh"]}, {code: dict(zip(("en", "zh"), pair, strict=True))
                                                           for code, pair in entry.get("codes", {}).items()})
            for entry in tomllib.loads(path.read_text(encoding="utf-8"))["column"]]


def text(cells: list[str], book: list[Column], language: str, leave_out: tuple[int, ...] = ()) -> str:
    """The row as sentences.

    Args:
        cells: the row's values, one for each column of the book.
        leave_out: columns (from 0) that are not told, such as sex or origin.

    Raises:
        LabError: another number of cells, or a code that the book does not have; names the column from 1.
    """
    if len(cells) != len(book):
        raise LabError(f"{len(cells)} cells where the code book has {len(book)} columns")
    said = []
    for number, (cell, column) in enumerate(zip(cells, book, strict=True)):
        if column.words and cell not in column.words:
            raise LabError(f"column {number + 1}: code {cell!r} is none of {', '.join(column.words)}")
        if number not in leave_out:
            said.append(column.sentence[language].format(column.words[cell][language] if column.words else cell))
    return (" " if language == "en" else "").join(said)
