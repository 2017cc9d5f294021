"""What a data set of records looks like, counted in one pass over its columns: lengths, labels, languages, sources, findings.

The columns are read in batches, so that the texts of a large data set are never in memory at once. This module knows nothing of
pages and figures; everything it returns is plain JSON values.
"""

import heapq
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import models
from labkit import records as recs
from labkit.errors import LabError
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from datasets import Dataset

_BATCH = 10_000  # records
_BARS = 40  # of a histogram, at most
_LABELS = 200  # values of one label field that are listed; the rest is one number
_SOURCES = 200  # sources that are listed

Plain = dict[str, Any]


def measure(records: "Dataset", scenario: Scenario) -> Plain:
    """Everything that is counted over the kept records.

    Returns:
        `languages` {split: {language: records}}, `sources` [{source, license, records}],
        `characters` (see `histogram`, by language), `turns` {messages in the conversation: records}, `labels` and `numbers` by
        field, `privacy` {kind: {found, records}}.
    """
    import numpy

    seen: Counter[tuple[str, str, str, str]] = Counter()
    turns: Counter[int] = Counter()
    labels: dict[str, Counter[tuple[str, str, str]]] = {field.name: Counter() for field in scenario.label_fields}
    numbers: dict[str, list[float]] = {field.name: [] for field in scenario.fields if field.kind == "number"}
    found: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    lengths, spoken = [], []
    for batch in batches(records, ["language", "split", "source", "license", "messages", "answer", "meta"]):
        split, language, source, license_ = (batch[name].to_pylist() for name in ("split", "language", "source", "license"))
        seen.update(zip(split, language, source, license_, strict=True))
        counted, characters = conversation_lengths(batch["messages"])
        turns.update(counted.tolist())
        lengths.append(characters)
        spoken += language
        for row, text in enumerate(batch["answer"].to_pylist()):
            answer = json.loads(text) if text else {}
            for name, counter in labels.items():
                counter[split[row], language[row], answer.get(name) or ""] += 1
            for name, values in numbers.items():
                if answer.get(name) is not None:
                    values.append(float(answer[name]))
        for text in batch["meta"].to_pylist():
            if text and "privacy" in text:
                for kind, count in (json.loads(text).get("privacy") or {}).items():
                    found[kind] += count
                    holders[kind] += 1
    characters = numpy.concatenate(lengths) if lengths else numpy.zeros(0, dtype=numpy.int64)
    return {
        "languages": _nested(seen, 0, 1),
        "sources": _sources(seen),
        "characters": histogram(characters, spoken),
        "turns": {str(count): turns[count] for count in sorted(turns)},
        "labels": {field.name: _label_counts(labels[field.name]) for field in scenario.label_fields},
        "numbers": {name: {**histogram(numpy.array(values)), "lacking": len(records) - len(values)} for name, values in numbers.items()},
        "privacy": {kind: {"found": count, "records": holders[kind]} for kind, count in found.most_common()},
    }


def files_of(records: "Dataset") -> list[str]:
    """The file each record was read from."""
    found: list[str] = []
    for batch in batches(records, ["source", "meta"]):
        for source, text in zip(batch["source"].to_pylist(), batch["meta"].to_pylist(), strict=True):
            found.append((json.loads(text).get("file") if text and '"file"' in text else None) or source)
    return found


def batches(records: "Dataset", columns: list[str]) -> "Iterator[dict[str, pyarrow.Array]]":
    """The given columns of the records in their order, some thousands at a time; JSON columns as their text."""
    import pyarrow

    if not len(records):
        return
    for table in records.select_columns(columns).with_format("arrow").iter(batch_size=_BATCH):
        arrays = {}
        for name in columns:
            array = table[name].combine_chunks()
            array = array.combine_chunks() if isinstance(array, pyarrow.ChunkedArray) else array
            arrays[name] = array.storage if isinstance(array, pyarrow.ExtensionArray) else array
        yield arrays


def conversation_lengths(messages: "pyarrow.Array") -> "tuple[numpy.ndarray, numpy.ndarray]":
    """How many messages each conversation has and how many characters they have together: two int64 arrays (conversations,)."""
    import numpy
    import pyarrow.compute as compute

    counts = compute.list_value_length(messages).to_numpy(zero_copy_only=False).astype(numpy.int64)
    characters = compute.utf8_length(messages.flatten().field("content")).to_numpy(zero_copy_only=False).astype(numpy.int64)
    owners = numpy.repeat(numpy.arange(len(counts)), counts)
    return counts, numpy.bincount(owners, weights=characters, minlength=len(counts)).astype(numpy.int64)


def histogram(values: "numpy.ndarray", groups: list[str] | None = None) -> Plain:
    """Counts over bars of equal width that cover 99% of the values; the last bar holds all that is longer.

    Returns:
        `edges` (bars + 1, the last is the largest value), `counts` {group: [records a bar]} (one group "" without `groups`), `open`
        (whether the last bar is the wider one), `median`, `mean`, `percentile_99`, `largest`, `total`, `n`; only `n` is there where
        there are no values.
    """
    import numpy

    if not len(values):
        return {"n": 0}
    low, high, top = (float(value) for value in numpy.percentile(values, [0, 99, 100], method="higher"))
    whole = numpy.issubdtype(values.dtype, numpy.integer)
    width = _nice((high - low) / (_BARS - 1) or (top - low) / (_BARS - 1) or 1.0, whole)
    start = math.floor(low / width) * width
    count, all_bars = int((high - start) // width) + 1, int((top - start) // width) + 1
    is_open = all_bars > _BARS + 5
    count = count if is_open else all_bars
    edges = start + width * numpy.arange(count + 1)
    bars = numpy.minimum(((values - start) // width).astype(numpy.int64), count if is_open else count - 1)
    size = count + is_open
    names = numpy.array(groups) if groups is not None else numpy.full(len(values), "")
    found = {str(name): numpy.bincount(bars[names == name], minlength=size).tolist() for name in sorted(set(names.tolist()))}
    shown = [*edges.tolist(), *([top] if is_open else [])]
    digits = 0 if whole else max(0, 2 - math.floor(math.log10(width)))
    return {"edges": [round(edge, digits) for edge in shown], "counts": found, "open": bool(is_open),
            "median": float(numpy.median(values)), "mean": round(float(values.mean()), 2), "percentile_99": high, "largest": top,
            "total": float(values.sum()), "n": len(values)}


def token_lengths(records: "Dataset", scenario: Scenario, base: str, sample: int) -> Plain:
    """How many tokens the base's tokenizer makes of whole records: system prompt, conversation and answer, as in training.

    Where there are more than `sample` records, those with the smallest ids are counted: ids are hashes, so that is a random draw
    that comes out the same for any order of the records.

    Returns:
        a `histogram` by language with `base`, `records` (all), `sampled`, `train_records`, `train_mean` (tokens a training record).

    Raises:
        LabError: there is no such base here, or its chat template refuses a record.
    """
    import jinja2
    import numpy

    tokenizer = _tokenizer(models.resolve(base).folder)
    identities, trained = records["id"][:], _trained(records)
    rows = sorted(heapq.nsmallest(sample, range(len(identities)), key=lambda row: (identities[row], row)))
    texts, languages = [], []
    for record in records.select(rows):
        messages, target = recs.prompt(record, scenario), recs.target(record, scenario)
        if tokenizer.chat_template:
            try:
                texts.append(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) + target)
            except jinja2.TemplateError as error:
                raise LabError(f"base {base}: its chat template refuses record {record['id']}: {error}") from error
        else:
            texts.append("\n".join(message["content"] for message in messages) + "\n" + target)
        languages.append(record["language"])
    counted = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    lengths = numpy.array([len(tokens) + 1 for tokens in counted], dtype=numpy.int64)  # and the token that ends the answer
    chosen = lengths[trained[rows]]
    mean = float((chosen if len(chosen) else lengths).mean()) if len(lengths) else 0.0
    return {**histogram(lengths, languages), "base": base, "records": len(records), "sampled": len(rows),
            "train_records": int(trained.sum()), "train_mean": round(mean, 2)}


def _tokenizer(folder: Path) -> Any:
    """The tokenizer of a base; where its whole file is there, without torch, whose import takes longer than the count."""
    if (folder / "tokenizer.json").exists():
        from transformers import PreTrainedTokenizerFast as Tokenizer
    else:
        from transformers import AutoTokenizer as Tokenizer
    return Tokenizer.from_pretrained(folder)


def _trained(records: "Dataset") -> "numpy.ndarray":
    """Which records are trained on: those of the training split that have an answer (all that have one, where there is no split)."""
    import numpy

    splits = numpy.array(records["split"][:], dtype=object)
    answered = [bool(text) and text != "{}" for batch in batches(records, ["answer"]) for text in batch["answer"].to_pylist()]
    return numpy.array(answered, dtype=bool) & ((splits == "train") | (not (splits != "").any()))


def check_total(name: str, parts: dict[str, int], whole: int) -> None:
    """LabError where the parts do not add up to the whole: the report would not account for every row."""
    if sum(parts.values()) != whole:
        said = " + ".join(f"{count} {part}" for part, count in parts.items())
        raise LabError(f"{name}: {said} = {sum(parts.values())}, but {whole} rows were read; the report cannot account for every row")


def _nested(seen: Counter, outer: int, inner: int) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for key, count in seen.items():
        found.setdefault(key[outer], Counter())[key[inner]] += count
    order = {split: place for place, split in enumerate(recs.SPLITS)}
    return {name: dict(sorted(found[name].items())) for name in sorted(found, key=lambda name: order.get(name, 9))}


def _sources(seen: Counter) -> list[Plain]:
    together: Counter[tuple[str, str]] = Counter()
    for (_, _, source, license_), count in seen.items():
        together[source, license_] += count
    ordered = sorted(together.items(), key=lambda entry: (-entry[1], entry[0]))
    listed = [{"source": source, "license": license_, "records": count} for (source, license_), count in ordered[:_SOURCES]]
    rest = ordered[_SOURCES:]
    if rest:
        listed.append({"source": f"… {len(rest)} more", "license": "", "records": sum(count for _, count in rest)})
    return listed


def _label_counts(counter: Counter[tuple[str, str, str]]) -> Plain:
    """`counts` [{split, language, value, records}], the most frequent values first, and how many values were left out."""
    totals: Counter[str] = Counter()
    for (_, _, value), count in counter.items():
        totals[value] += count
    listed = {value for value, _ in sorted(totals.items(), key=lambda entry: (-entry[1], entry[0]))[:_LABELS]}
    rows = [{"split": split, "language": language, "value": value, "records": count}
            for (split, language, value), count in sorted(counter.items()) if value in listed]
    rest = {value: count for value, count in totals.items() if value not in listed}
    return {"counts": rows, "values": len(totals) - ("" in totals), "unlisted_values": len(rest), "unlisted_records": sum(rest.values())}


def _nice(width: float, whole: bool) -> float:
    """The next larger of 1, 2 and 5 times a power of ten; at least 1 for whole numbers."""
    power = 10.0 ** math.floor(math.log10(width))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= width * (1 - 1e-9))
    return max(step, 1.0) if whole else step
