"""GLUE (Wang et al. 2019, https://arxiv.org/abs/1804.07461) in its published files: tab-separated, one example a line, no quoting.

A quotation mark is a character like any other, and a field never spans lines. Columns are found by the header's names; CoLA has no header
in `train.tsv` and `dev.tsv`. MRPC lies either as GLUE's own three files or as Microsoft's two (`msr_paraphrase_train.txt`, `…_test.txt`),
of which `dev_ids.tsv` names the pairs held out for validation. Test files have no labels (Microsoft's has).

What the leaderboard reports for each task (the paper's table 1) is in `TASKS[NAME].metrics`. Label numbers are those of the hub's copy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.training.tasks.formats import TaskData
from labkit.training.tasks.formats.reading import Broken, Strictness, find, from_hub, lines

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "nyu-mll/glue"
_USUAL = {"train": ("train.tsv",), "validation": ("dev.tsv",), "test": ("test.tsv",)}


@dataclass(frozen=True)
class GlueTask:
    """Where one task's columns are.

    Attributes:
        columns: the header's name of the text, and of the second text where there is one.
        label: the header's name of the label.
        values: how the label is written, to its number; empty for a score.
        hub: the hub's names of the texts.
        no_header: the columns of a file without one.
        folders: names that the task's own folder has in the published archive.
    """

    en: str
    zh: str
    columns: tuple[str, ...]
    label: str
    values: dict[str, int]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    hub: tuple[str, ...]
    folders: tuple[str, ...]
    license: str = "see the task's own publisher"
    files: tuple[tuple[str, tuple[str, ...]], ...] = tuple(_USUAL.items())
    no_header: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        return "classify" if self.labels else "regress"


def _names(*names: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


_ZERO_ONE = {"0": 0, "1": 1}
_NLI = ("entailment", "neutral", "contradiction")
_TWO = ("entailment", "not_entailment")
_PAIR = ("sentence1", "sentence2")

TASKS = {
    "cola": GlueTask("CoLA: is the sentence grammatical?", "CoLA：句子是否合乎语法", ("sentence",), "label", _ZERO_ONE,
                     ("unacceptable", "acceptable"), ("matthews",), ("sentence",), ("CoLA",),
                     no_header=("source", "label", "mark", "sentence")),
    "sst2": GlueTask("SST-2: is the review positive?", "SST-2：影评的情感", ("sentence",), "label", _ZERO_ONE,
                     ("negative", "positive"), ("accuracy",), ("sentence",), ("SST-2", "SST2")),
    "mrpc": GlueTask("MRPC: do both say the same?", "MRPC：两句是否同义", ("#1 String", "#2 String"), "Quality", _ZERO_ONE,
                     ("not_equivalent", "equivalent"), ("f1", "accuracy"), _PAIR, ("MRPC",),
                     files=(("train", ("train.tsv", "msr_paraphrase_train.txt")), ("validation", ("dev.tsv",)),
                            ("test", ("test.tsv", "msr_paraphrase_test.txt")))),
    "qqp": GlueTask("QQP: is it the same question?", "QQP：两个问题是否相同", ("question1", "question2"), "is_duplicate", _ZERO_ONE,
                    ("not_duplicate", "duplicate"), ("f1", "accuracy"), ("question1", "question2"), ("QQP",)),
    "stsb": GlueTask("STS-B: how alike are both, 0 to 5?", "STS-B：两句的相似度（0到5）", _PAIR, "score", {}, (), ("pearson", "spearman"),
                     _PAIR, ("STS-B", "STSB")),
    "mnli": GlueTask("MNLI: does the first entail the second?", "MNLI：前句是否蕴含后句", _PAIR, "gold_label", _names(*_NLI), _NLI,
                     ("accuracy",), ("premise", "hypothesis"), ("MNLI",),
                     files=(("train", ("train.tsv",)), ("validation_matched", ("dev_matched.tsv",)),
                            ("validation_mismatched", ("dev_mismatched.tsv",)), ("test_matched", ("test_matched.tsv",)),
                            ("test_mismatched", ("test_mismatched.tsv",)))),
    "qnli": GlueTask("QNLI: does the sentence answer the question?", "QNLI：句子是否回答了问题", ("question", "sentence"), "label",
                     _names(*_TWO), _TWO, ("accuracy",), ("question", "sentence"), ("QNLI",)),
    "rte": GlueTask("RTE: does the first entail the second?", "RTE：前句是否蕴含后句", _PAIR, "label", _names(*_TWO), _TWO, ("accuracy",),
                    _PAIR, ("RTE",)),
    "wnli": GlueTask("WNLI: what does the pronoun mean?", "WNLI：代词指代", _PAIR, "label", _ZERO_ONE,
                     ("not_entailment", "entailment"), ("accuracy",), _PAIR, ("WNLI",)),
    "ax": GlueTask("AX: GLUE's diagnostic set", "AX：GLUE诊断集", _PAIR, "Label", _names(*_NLI), _NLI, ("matthews",),
                   ("premise", "hypothesis"), ("AX", "diagnostic"), files=(("test", ("diagnostic.tsv", "diagnostic-full.tsv")),)),
}
_OTHER_NAMES = {"sentence1": "Premise", "sentence2": "Hypothesis"}  # of diagnostic-full.tsv


def load(name: str, folder: Path | None = None, leave_out_broken: bool = False) -> TaskData:
    """One of GLUE's tasks (`TASKS`) from the folder of its files (or the folder of all tasks), or from the hub.

    Raises:
        LabError: no such task; no file of it is there; a line is malformed (names file and line).
    """
    if name not in TASKS:
        raise LabError(f"GLUE has no task {name!r}, only {', '.join(TASKS)}")
    task, strict = TASKS[name], Strictness(leave_out_broken)
    if folder is None:
        splits, source = _hub_splits(name, task), f"the hub, {HUB}"
    else:
        folder = next((folder / own for own in task.folders if (folder / own).is_dir()), folder)
        splits, source = _local_splits(name, task, folder, strict), str(folder)
    return TaskData(f"glue/{name}", task.task, splits, task.labels, task.metrics, source, task.license, tuple(strict.left_out))


def _local_splits(name: str, task: GlueTask, folder: Path, strict: Strictness) -> "dict[str, Dataset]":
    splits = {}
    for split, names in task.files:
        path = find(folder, *names)
        if path is None:
            continue
        rows = list(_rows(path, task, split, strict))
        if not rows:
            raise LabError(f"{path} has no examples")
        held_out = find(folder, "dev_ids.tsv", "mrpc_dev_ids.tsv", "msr_paraphrase_dev_ids.tsv")
        if path.name == "msr_paraphrase_train.txt" and held_out is not None:
            pairs = _pairs(held_out)
            splits["validation"] = _dataset([row for row in rows if row["pair"] in pairs], task)
            rows = [row for row in rows if row["pair"] not in pairs]
        splits[split] = _dataset(rows, task)
    if not splits:
        raise LabError(f"{folder} has none of {name}'s files: {', '.join(file for _, names in task.files for file in names)}")
    return splits


def _rows(path: Path, task: GlueTask, split: str, strict: Strictness) -> Iterator[dict[str, Any]]:
    places: dict[str, int] = {}  # column -> where it stands
    width = 0
    for number, line in lines(path):
        cells = line.split("\t")
        if number == 1:
            places, is_header = _header(path, task, split, cells)
            width = len(cells)
            if is_header:
                continue
        if not line:
            strict.broken(path, number, "an empty line")
            continue
        try:
            if len(cells) != width:
                raise Broken(f"{len(cells)} columns where the first line has {width}")
            yield _row(cells, places, task)
        except Broken as error:
            strict.broken(path, number, str(error))


def _header(path: Path, task: GlueTask, split: str, cells: list[str]) -> tuple[dict[str, int], bool]:
    """Where each column stands, and whether the line is a header at all."""
    if task.no_header and len(cells) == len(task.no_header) and "sentence" not in cells:
        return {name: place for place, name in enumerate(task.no_header)}, False
    header = {name: place for place, name in enumerate(cells)}
    if "Premise" in header:
        header |= {ours: header[theirs] for ours, theirs in _OTHER_NAMES.items() if theirs in header}
    wanted = [*task.columns, *([task.label] if not split.startswith("test") else [])]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise LabError(f"{path}, line 1: the header lacks {', '.join(missing)}; it has {', '.join(map(repr, cells[:12]))}")
    return header, True


def _row(cells: list[str], places: dict[str, int], task: GlueTask) -> dict[str, Any]:
    texts = [cells[places[name]] for name in task.columns]
    if not all(text.strip() for text in texts):
        raise Broken("a text is empty")
    row: dict[str, Any] = dict(zip(("text", "text_pair"), texts, strict=False))
    if "#1 ID" in places and "#2 ID" in places:
        row["pair"] = (cells[places["#1 ID"]], cells[places["#2 ID"]])
    if task.label in places:
        row["label"] = _label(cells[places[task.label]], task)
    return row


def _label(written: str, task: GlueTask) -> int | float:
    if task.values:
        if written not in task.values:
            raise Broken(f"the label must be one of {', '.join(task.values)}, not {written!r}")
        return task.values[written]
    try:
        value = float(written)
    except ValueError:
        raise Broken(f"the score must be a number, not {written!r}") from None
    if not 0 <= value <= 5:
        raise Broken(f"the score must be from 0 to 5, not {written}")
    return value


def _pairs(path: Path) -> set[tuple[str, str]]:
    found = set()
    for number, line in lines(path):
        cells = line.split("\t")
        if len(cells) < 2:
            raise LabError(f"{path}, line {number}: two ids with a tab between them are wanted, not {line!r}")
        found.add((cells[0], cells[1]))
    return found


def _dataset(rows: list[dict[str, Any]], task: GlueTask) -> "Dataset":
    from datasets import Dataset, Features, Value

    kept = [{key: value for key, value in row.items() if key != "pair"} for row in rows]
    kinds = {"text": Value("string"), "text_pair": Value("string"), "label": Value("int64" if task.labels else "float64")}
    names = [name for name in kinds if not kept or name in kept[0]]
    return Dataset.from_list(kept, features=Features({name: kinds[name] for name in names}))


def _hub_splits(name: str, task: GlueTask) -> "dict[str, Dataset]":
    return {split: from_columns(rows, task) for split, rows in from_hub(HUB, name).items()}


def from_columns(rows: "Dataset", task: GlueTask) -> "Dataset":
    """A split as the hub has it with our columns; where the label is -1 throughout (a test split), without it."""
    from datasets import Value

    rows = rows.rename_columns(dict(zip(task.hub, ("text", "text_pair"), strict=False)))
    labelled = "label" in rows.column_names and any(value != -1 for value in rows["label"][:])
    rows = rows.select_columns(["text", *(["text_pair"] if len(task.hub) == 2 else []), *(["label"] if labelled else [])])
    return rows.cast_column("label", Value("int64" if task.labels else "float64")) if labelled else rows
