"""CoNLL-2003 (Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419): one word a line, columns parted by spaces or a tab,
a blank line after each sentence, `-DOCSTART-` before each document; the word first, the entity's tag last.

The published files are IOB1 (an entity begins with I-, with B- only right behind another of its type); most copies are BIO (every entity
begins with B-). Which one a file is can be told from its tags; IOB1 becomes BIO, and a sequence that is neither is an error.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.training.tasks import alignment
from labkit.training.tasks.formats import TaskData
from labkit.training.tasks.formats.reading import find, from_hub, lines

if TYPE_CHECKING:
    from datasets import Dataset

_FILES = {"train": ("eng.train", "train.txt", "train.conll", "train.bio"),
          "validation": ("eng.testa", "valid.txt", "validation.txt", "dev.txt", "validation.conll", "dev.conll", "valid.conll", "dev.bio"),
          "test": ("eng.testb", "test.txt", "test.conll", "test.bio")}
_HUB = "eriktks/conll2003"
_METRICS = ("entity_f1", "entity_precision", "entity_recall")
_TAG = re.compile("O|[BI]-.+")
_GAP = re.compile("[ \t]+")


@dataclass(frozen=True)
class Sentence:
    """Words with their tags (BIO), the number of their document and the line of the first word; `columns` are all columns of all words."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    document: int
    line: int
    columns: tuple[tuple[str, ...], ...]


def load(folder: Path | None = None, encoding: str = "utf-8-sig", scheme: str = "auto") -> TaskData:
    """CoNLL-2003, or any data in its format, from a folder (`eng.train`, `eng.testa`, `eng.testb`, or `train`, `valid`/`dev`, `test` with
    .txt, .conll or .bio), or from the hub. The labels are O, then B- and I- of each type in the alphabet's order.

    Raises:
        LabError: no file is there, or one is malformed (names file and line).
    """
    if folder is None:
        return _of_hub()
    found = {split: find(folder, *names) for split, names in _FILES.items()}
    sentences = {split: read(path, encoding, scheme) for split, path in found.items() if path is not None}
    if not sentences:
        raise LabError(f"{folder} has none of {', '.join(name for names in _FILES.values() for name in names)}")
    tags = {tag for rows in sentences.values() for row in rows for tag in row.tags}
    labels = alignment.bio_labels({tag[2:] for tag in tags if tag != "O"})
    splits = {split: dataset(rows, labels) for split, rows in sentences.items()}
    return TaskData("conll2003", "tag", splits, labels, _METRICS, str(folder), "see the publisher")


def read(path: Path, encoding: str = "utf-8-sig", scheme: str = "auto") -> list[Sentence]:
    """The sentences of a file in their order.

    Args:
        scheme: `auto`, `iob1` or `bio`: how the file is tagged.

    Raises:
        LabError: the number of columns changes, a tag is unknown, or a sequence of tags is invalid; names file and line.
    """
    if scheme not in ("auto", "iob1", "bio"):
        raise LabError(f"a tagging scheme is auto, iob1 or bio, not {scheme!r}")
    sentences: list[Sentence] = []
    words: list[tuple[str, ...]] = []
    first, document, width = 0, -1, 0

    def finish() -> None:
        if words:
            tokens, tags = tuple(word[0] for word in words), tuple(word[-1] for word in words)
            sentences.append(Sentence(tokens, tags, max(document, 0), first, tuple(words)))
            words.clear()

    for number, line in lines(path, encoding):
        cells = _GAP.split(line.strip(" \t")) if line.strip(" \t") else []
        if not cells:
            finish()
            continue
        if cells[0] == "-DOCSTART-":
            finish()
            document += 1
            continue
        if len(cells) < 2:
            raise LabError(f"{path}, line {number}: a word and its tag are wanted, found only {line!r}")
        width = width or len(cells)
        if len(cells) != width:
            raise LabError(f"{path}, line {number}: {len(cells)} columns where the first word has {width}")
        if not _TAG.fullmatch(cells[-1]):
            raise LabError(f"{path}, line {number}: the tag {cells[-1]!r} is not O, B-TYPE or I-TYPE")
        if not words:
            first = number
        words.append(tuple(cells))
    finish()
    if not sentences:
        raise LabError(f"{path} has no words")
    return [_as_bio(sentence, convert) for convert in [_scheme(path, sentences, scheme)] for sentence in sentences]


def _scheme(path: Path, sentences: list[Sentence], scheme: str) -> Callable[[tuple[str, ...]], list[str]]:
    """How the file's tags become BIO."""
    faults = {"bio": _fault(path, sentences, alignment.bio_fault), "iob1": _fault(path, sentences, alignment.iob1_fault)}
    if scheme == "auto":
        scheme = "bio" if faults["bio"] is None else "iob1"
        if faults["iob1"] is not None and faults["bio"] is not None:
            raise LabError(f"{faults['bio']}; nor is it IOB1: {faults['iob1']}")
    elif faults[scheme] is not None:
        raise LabError(faults[scheme])
    return list if scheme == "bio" else alignment.iob1_to_bio


def _fault(path: Path, sentences: list[Sentence], check: Callable[[tuple[str, ...]], int | None]) -> str | None:
    for sentence in sentences:
        place = check(sentence.tags)
        if place is not None:
            before = sentence.tags[place - 1] if place else "the sentence's start"
            return f"{path}, line {sentence.line + place}: {sentence.tags[place]} cannot follow {before}"
    return None


def _as_bio(sentence: Sentence, convert: Callable[[tuple[str, ...]], list[str]]) -> Sentence:
    return Sentence(sentence.tokens, tuple(convert(sentence.tags)), sentence.document, sentence.line, sentence.columns)


def dataset(sentences: list[Sentence], labels: tuple[str, ...]) -> "Dataset":
    """Sentences as rows `tokens`, `tags` (numbers in `labels`), `document`."""
    from datasets import Dataset, Features, List, Value

    number = {label: place for place, label in enumerate(labels)}
    rows = [{"tokens": list(row.tokens), "tags": [number[tag] for tag in row.tags], "document": row.document} for row in sentences]
    kinds = Features({"tokens": List(Value("string")), "tags": List(Value("int64")), "document": Value("int32")})
    return Dataset.from_list(rows, features=kinds)


def _of_hub() -> TaskData:
    """The hub's copy is BIO already; it keeps no documents."""
    splits = from_hub(_HUB, revision="refs/convert/parquet")
    names = splits["train"].features["ner_tags"].feature.names
    found = {}
    for split, rows in splits.items():
        kept = rows.select_columns(["tokens", "ner_tags"]).rename_column("ner_tags", "tags")
        found[split] = kept.add_column("document", [0] * len(kept))
    return TaskData("conll2003", "tag", found, tuple(names), _METRICS, f"the hub, {_HUB}", "see the publisher")
