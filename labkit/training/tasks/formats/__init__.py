"""Published data sets for every task, from files in their published formats, from the hub, or from the lab's own samples.

`load("samples/sentiment")`, `load("glue/sst2", "FOLDER")`, `load("glue/sst2")` (the hub's local cache; the hub itself with
`LABKIT_ONLINE=1`). Every loader gives a `TaskData`. This package knows nothing about tokenizers and models.

Columns by task:
    classify     text, maybe text_pair, label (its number in `labels`)
    multi_label  text, label (list of numbers, sorted, may be empty)
    regress      text, maybe text_pair, label (float64)
    tag          tokens, tags (numbers in `labels`), document (counts from 0)
    span         id, title, question, context, answers {text: list, answer_start: list of characters}; both empty: not answerable
    chat         id, messages (role and content; the last is the user's), answer, language (of the answer)
    embed        anchor, positive and maybe negative; or text, label
A split that was published without answers has no column for them.
"""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import places
from labkit.errors import LabError

if TYPE_CHECKING:
    from datasets import Dataset

TASKS = ("classify", "multi_label", "regress", "tag", "span", "chat", "embed")


@dataclass(frozen=True)
class TaskData:
    """Data for one task.

    Attributes:
        name: what `load` was asked for.
        task: one of `TASKS`; says which columns the splits have.
        splits: `train`, `validation`, `test`, those that are there; of MNLI `validation_matched`, `validation_mismatched` and so on.
        labels: names of the labels in the order of their numbers; empty where there are none.
        metrics: names in `labkit.evaluation.task_metrics`, the one that decides first.
        source: where it came from.
        license: as the publisher says.
        left_out: one line for each row that was left out (file, line, why); only where that was asked for.
    """

    name: str
    task: str
    splits: "dict[str, Dataset]"
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    source: str
    license: str
    left_out: tuple[str, ...] = ()

    @property
    def train(self) -> "Dataset":
        """The split to learn from; LabError where there is none."""
        return self._split("train")

    @property
    def validation(self) -> "Dataset":
        """The split to measure on while learning (of MNLI the matched one); LabError where there is none."""
        return self._split("validation", "validation_matched")

    def _split(self, *names: str) -> "Dataset":
        for name in names:
            if name in self.splits:
                return self.splits[name]
        raise LabError(f"{self.name} has no split {names[0]!r}, only {', '.join(self.splits) or 'none at all'}")


@dataclass(frozen=True)
class Entry:
    """What can be loaded by name: `titles` are for people, by language."""

    name: str
    task: str
    titles: dict[str, str]


def load(name: str, folder: str | os.PathLike | None = None, *, leave_out_broken: bool = False) -> TaskData:
    """Load a data set by its name in `catalogue()`.

    Args:
        name: `samples/NAME`, `glue/NAME`, `squad`, `squad_v2`, `conll2003`, or, with a folder, `chats/KIND` (see `chats`), `multi_label`,
            `embed`.
        folder: where the files lie in their published layout; without it samples come with the lab, and the others from the hub.
        leave_out_broken: leave out rows that cannot be read and list them in `left_out`, in place of refusing the file.

    Raises:
        LabError: no such name, the files are missing or malformed (names file and row), or the hub does not give them.
    """
    from labkit.training.tasks.formats import chats, conll, examples, glue, squad

    place = None if folder is None else Path(folder).expanduser()
    if place is not None and not place.is_dir():
        raise LabError(f"{place} is not a folder")
    kind, _, rest = name.partition("/")
    if kind == "samples":
        return _sample(rest, leave_out_broken)
    if kind == "glue":
        return glue.load(rest, place, leave_out_broken)
    if name in squad.VERSIONS:
        return squad.load(name, place)
    if name == "conll2003":
        return conll.load(place)
    if kind == "chats" and rest in chats.KINDS and place is not None:
        return chats.load(rest, place, leave_out_broken)
    if name in examples.KINDS and place is not None:
        return examples.load(name, place, leave_out_broken)
    known = ", ".join([entry.name for entry in catalogue()])
    raise LabError(f"no data set is called {name!r}; there are {known}; and, with a folder, "
                   f"{', '.join([f'chats/{kind}' for kind in chats.KINDS] + list(examples.KINDS))}")


def named(text: str) -> TaskData:
    """`load` by one word, as people type it: `NAME`, or `NAME=FOLDER`."""
    name, _, folder = text.partition("=")
    return load(name, folder or None)


def catalogue() -> list[Entry]:
    """Everything that `load` knows by name, the samples first."""
    from labkit.training.tasks.formats import glue

    found = [Entry(f"samples/{name}", card["task"], {"en": card["en"], "zh": card["zh"]}) for name, card in _cards().items()]
    found += [Entry(f"glue/{name}", task.task, {"en": task.en, "zh": task.zh}) for name, task in glue.TASKS.items()]
    found += [Entry("squad", "span", {"en": "SQuAD 1.1: answers in Wikipedia", "zh": "SQuAD 1.1：维基百科上的抽取式问答"}),
              Entry("squad_v2", "span", {"en": "SQuAD 2.0: some questions have no answer", "zh": "SQuAD 2.0：部分问题无答案"}),
              Entry("conll2003", "tag", {"en": "CoNLL-2003: names in news", "zh": "CoNLL-2003：新闻中的命名实体"})]
    return found


def _cards() -> dict[str, dict[str, Any]]:
    path = places.samples_folder() / "tasks" / "samples.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"{path} does not exist; the samples come with the lab's repository") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path}: {error}") from None


def _sample(name: str, leave_out_broken: bool) -> TaskData:
    import dataclasses

    cards = _cards()
    if name not in cards:
        raise LabError(f"no sample is called {name!r}; there are {', '.join(cards)}")
    card = cards[name]
    folder = places.samples_folder() / "tasks" / name
    found = load(card["format"], folder, leave_out_broken=leave_out_broken)
    return dataclasses.replace(found, name=f"samples/{name}", source=f"labkit's samples, {folder}", license="CC0-1.0",
                               metrics=tuple(card.get("metrics", found.metrics)))
