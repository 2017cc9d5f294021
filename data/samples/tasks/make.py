"""Make the small samples for every task: the hand-written `parts/` and the scenarios' samples become files in published formats.

    python data/samples/tasks/make.py [--seed 7] [--out FOLDER]

What belongs together stays in one split: the hypotheses of one premise, the partners of one sentence, the sentences of one document, the
paragraphs of one article. What is made from the scenarios' samples keeps their split, which is by situation. The same seed and parts give
the same bytes. This file needs nothing but the standard library. See README.md for the card.
"""

import argparse
import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PARTS, SCENARIOS = HERE / "parts", HERE.parent
SPLITS = ("train", "validation", "test")
SHARES = {"test": 0.2, "validation": 0.15}
DEV = {"train": "train", "validation": "dev", "test": "test"}  # GLUE and SQuAD call it dev
ENTITY = re.compile(r"\[([^|\]]+)\|([A-Z]+)\]")
# From which level of a fact on the sheet of an application shows a risk; see finance_rule.py for the levels.
RISKS = {"missed": ("missed_payments", 2), "load": ("high_debt_burden", 2), "job": ("unsteady_job", 2), "savings": ("low_savings", 2),
         "cover": ("no_security", 1), "trend": ("falling_revenue", 2), "interest": ("thin_interest_cover", 2),
         "gearing": ("high_debt_to_equity", 2), "cash": ("low_cash", 2), "filings": ("late_filings_or_claims", 1)}

Splits = dict[str, list[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    for name, make in MAKERS.items():
        counts = make(arguments.out / name, random.Random(f"{arguments.seed} {name}"))
        print(f"{name:14}" + "".join(f"{split} {count:4}   " for split, count in counts.items()))


def records(scenario: str, language: str) -> Iterator[dict[str, Any]]:
    """The labelled records of a scenario's samples in one language."""
    for line in (SCENARIOS / f"{scenario}.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["language"] == language:
            yield record


def said(record: dict[str, Any]) -> str:
    """What the user said, on one line."""
    return " ".join(record["messages"][0]["content"].split())


def blocks(name: str) -> Iterator[tuple[str, list[str]]]:
    """(heading, lines) of each block of a part: blocks are parted by blank lines, and `# ` begins a heading."""
    heading = ""
    for block in (PARTS / name).read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in block.split("\n") if line]
        if lines and lines[0].startswith("# "):
            heading = lines.pop(0)[2:]
        if lines:
            yield heading, lines


def dealt(groups: list[tuple[str, list[Any]]], chance: random.Random) -> Splits:
    """Groups spread over the splits, those of each heading by the shares; within a split the rows are shuffled."""
    by_heading: dict[str, list[list[Any]]] = defaultdict(list)
    for heading, rows in groups:
        by_heading[heading].append(rows)
    found: Splits = {split: [] for split in SPLITS}
    for own in by_heading.values():
        chance.shuffle(own)
        ends = round(SHARES["test"] * len(own)), round((SHARES["test"] + SHARES["validation"]) * len(own))
        for place, rows in enumerate(own):
            found["test" if place < ends[0] else "validation" if place < ends[1] else "train"] += rows
    for rows in found.values():
        chance.shuffle(rows)
    return found


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def write_table(folder: Path, header: list[str], splits: Splits) -> dict[str, int]:
    """GLUE's layout: tab-separated, no quoting. Unlike GLUE's, the test file has its labels."""
    for split, rows in splits.items():
        assert not any("\t" in str(cell) or "\n" in str(cell) for row in rows for cell in row)
        write(folder / f"{DEV[split]}.tsv", "".join("\t".join(map(str, row)) + "\n" for row in [header, *rows]))
    return {split: len(rows) for split, rows in splits.items()}


def write_lines(folder: Path, splits: Splits) -> dict[str, int]:
    for split, rows in splits.items():
        write(folder / f"{split}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return {split: len(rows) for split, rows in splits.items()}


def sentiment(language: str) -> Callable[[Path, random.Random], dict[str, int]]:
    """SST-2's layout, from what customers wrote in a clearly positive or negative tone."""
    def make(folder: Path, chance: random.Random) -> dict[str, int]:
        splits: Splits = {split: [] for split in SPLITS}
        for record in records("customer_service", language):
            if record["answer"].get("sentiment") in ("positive", "negative"):
                splits[record["split"]].append((said(record), int(record["answer"]["sentiment"] == "positive")))
        return write_table(folder, ["sentence", "label"], splits)

    return make


def entailment(folder: Path, chance: random.Random) -> dict[str, int]:
    """RTE's layout."""
    groups = []
    for heading, lines in blocks("entailment.txt"):
        marks = {line[0]: line[3:] for line in lines}
        groups.append((heading, [(marks["P"], marks["+"], "entailment"), (marks["P"], marks["-"], "not_entailment")]))
    splits = {split: [(index, *row) for index, row in enumerate(rows)] for split, rows in dealt(groups, chance).items()}
    return write_table(folder, ["index", "sentence1", "sentence2", "label"], splits)


def similarity(folder: Path, chance: random.Random) -> dict[str, int]:
    """STS-B's layout. One pair in two is turned round."""
    groups = []
    for heading, lines in blocks("similarity.txt"):
        first = lines[0].removeprefix("A: ")
        pairs = [(first, line[5:], line[:3]) for line in lines[1:]]
        groups.append((heading, [(b, a, score, heading) if chance.random() < 0.5 else (a, b, score, heading) for a, b, score in pairs]))
    header = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score"]
    splits = {split: [(index, heading.replace(" ", "-"), "labkit", "2026", index, "none", "none", a, b, f"{float(score):.3f}")
                      for index, (a, b, score, heading) in enumerate(rows)] for split, rows in dealt(groups, chance).items()}
    return write_table(folder, header, splits)


def risk_factors(folder: Path, chance: random.Random) -> dict[str, int]:
    """Which risks an application for a loan shows: any number of ten labels, by the levels that it was told from."""
    splits: Splits = {split: [] for split in SPLITS}
    for language in ("en", "zh"):
        for record in records("finance", language):
            levels = record["meta"]["profile"]
            labels = [RISKS[fact][0] for fact in RISKS if levels.get(fact, -1) >= RISKS[fact][1]]
            splits[record["split"]].append({"text": said(record), "labels": labels, "language": language})
    return write_lines(folder, splits)


def names(language: str) -> Callable[[Path, random.Random], dict[str, int]]:
    """CoNLL-2003's four columns, BIO; part of speech and chunk are not known and written `_`. Chinese: a character a line."""
    def make(folder: Path, chance: random.Random) -> dict[str, int]:
        groups = [("", [[_tagged(line, language) for line in lines]]) for _, lines in blocks(f"names.{language}.txt")]
        splits = dealt(groups, chance)
        for split, documents in splits.items():
            text = "".join("-DOCSTART- -X- -X- O\n\n" + "".join("".join(f"{word} _ _ {tag}\n" for word, tag in sentence) + "\n"
                                                                for sentence in document) for document in documents)
            write(folder / f"{ {'validation': 'valid'}.get(split, split)}.txt", text)
        return {split: sum(len(document) for document in documents) for split, documents in splits.items()}

    return make


def _tagged(line: str, language: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    cut = (lambda text: text.split()) if language == "en" else (lambda text: list(text.replace(" ", "")))
    end = 0
    for match in ENTITY.finditer(line):
        found += [(word, "O") for word in cut(line[end : match.start()])]
        found += [(word, ("I-" if place else "B-") + match[2]) for place, word in enumerate(cut(match[1]))]
        end = match.end()
    return found + [(word, "O") for word in cut(line[end:])]


def articles(language: str) -> list[dict[str, Any]]:
    """Articles in SQuAD's form. Questions marked `L` are asked of the whole article as one long paragraph."""
    made, title, paragraphs, long = [], "", [], []

    def finish() -> None:
        if paragraphs:
            whole = "\n".join(paragraph["context"] for paragraph in paragraphs)
            asked = [{"context": whole, "qas": [_question(title, whole, line) for line in long]}] if long else []
            made.append({"title": title, "paragraphs": [*paragraphs, *asked]})

    for line in (PARTS / f"questions.{language}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            finish()
            title, paragraphs, long = line[2:], [], []
        elif line[:3] in ("Q: ", "N: "):
            paragraphs[-1]["qas"].append(_question(title, paragraphs[-1]["context"], line))
        elif line[:3] == "L: ":
            long.append(line)
        elif line:
            paragraphs.append({"context": line, "qas": []})
    finish()
    return made


def _question(title: str, context: str, line: str) -> dict[str, Any]:
    question, *answer = line[3:].split(" | ")
    identity = hashlib.sha256(f"{title}\n{question}".encode()).hexdigest()[:16]
    if not answer:
        return {"question": question, "id": identity, "answers": [], "is_impossible": True}
    start = context.rindex(answer[0]) if answer[1:] == ["last"] else context.index(answer[0])
    return {"question": question, "id": identity, "answers": [{"text": answer[0], "answer_start": start}], "is_impossible": False}


def by_article(language: str) -> Splits:
    """English: the last article but one is for validation, the last for testing. Chinese: the last for validation."""
    made = articles(language)
    ends = {"train": made[:-2], "validation": made[-2:-1], "test": made[-1:]}
    return ends if language == "en" else {"train": made[:-1], "validation": made[-1:]}


def questions(language: str) -> Callable[[Path, random.Random], dict[str, int]]:
    """SQuAD 2.0's layout."""
    def make(folder: Path, chance: random.Random) -> dict[str, int]:
        splits = by_article(language)
        for split, own in splits.items():
            write(folder / f"{DEV[split]}-v2.0.json", json.dumps({"version": "v2.0", "data": own}, ensure_ascii=False, indent=1) + "\n")
        return {split: sum(len(paragraph["qas"]) for article in own for paragraph in article["paragraphs"])
                for split, own in splits.items()}

    return make


def reading(folder: Path, chance: random.Random) -> dict[str, int]:
    """The answerable questions of both languages, to be answered in writing."""
    splits: Splits = {split: [] for split in SPLITS}
    for language in ("en", "zh"):
        for split, own in by_article(language).items():
            splits[split] += [{"id": question["id"], "question": question["question"], "context": paragraph["context"],
                               "answer": question["answers"][0]["text"], "language": language}
                              for article in own for paragraph in article["paragraphs"] for question in paragraph["qas"]
                              if question["answers"]]
    return write_lines(folder, splits)


def summaries(folder: Path, chance: random.Random) -> dict[str, int]:
    """The facts of a legal case and their summary, the longest telling of each situation."""
    splits: Splits = {split: [] for split in SPLITS}
    for language in ("en", "zh"):
        tellings: dict[str, dict[str, Any]] = {}
        for record in records("legal", language):
            core = record["meta"]["core"]
            if record["answer"].get("summary") and len(said(record)) > len(said(tellings[core]) if core in tellings else ""):
                tellings[core] = record
        for record in tellings.values():
            splits[record["split"]].append({"id": record["id"], "document": said(record), "summary": record["answer"]["summary"],
                                            "language": language})
    return write_lines(folder, splits)


def translation(folder: Path, chance: random.Random) -> dict[str, int]:
    """Each pair in both directions, both in the same split."""
    groups = []
    for heading, lines in blocks("translation.txt"):
        for line in lines:
            texts = dict(zip(("en", "zh"), line.split(" | "), strict=True))
            identity = hashlib.sha256(line.encode()).hexdigest()[:12]
            groups.append((heading, [{"id": f"{identity}-{a}-{b}", "source": texts[a], "target": texts[b], "source_language": a,
                                      "target_language": b} for a, b in (("en", "zh"), ("zh", "en"))]))
    return write_lines(folder, dealt(groups, chance))


def dialogue(folder: Path, chance: random.Random) -> dict[str, int]:
    groups = []
    for heading, lines in blocks("dialogue.txt"):
        messages = [{"role": {"U": "user", "A": "assistant"}[line[0]], "content": line[3:]} for line in lines]
        identity = hashlib.sha256(lines[0].encode()).hexdigest()[:12]
        groups.append((heading, [{"id": identity, "messages": messages, "language": heading}]))
    return write_lines(folder, dealt(groups, chance))


def retellings(folder: Path, chance: random.Random) -> dict[str, int]:
    """Two tellings of one situation, and one of another: of customers with the same intent (hard), else with another label."""
    splits: Splits = {split: [] for split in SPLITS}
    for scenario, field, same in (("customer_service", "intent", True), ("medical", "condition", False), ("legal", "category", False)):
        for language in ("en", "zh"):
            tellings: dict[str, dict[str, list[dict[str, Any]]]] = {split: defaultdict(list) for split in SPLITS}
            for record in records(scenario, language):
                tellings[record["split"]][record["meta"]["core"]].append(record)
            for split, cores in tellings.items():
                for core, own in cores.items():
                    if len({said(record) for record in own}) < 2:
                        continue
                    label = own[0]["answer"][field]
                    others = [record for other, rows in cores.items() if other != core for record in rows
                              if (record["answer"][field] == label) == same]
                    if others:
                        splits[split].append({"anchor": said(own[0]), "positive": said(own[1]), "negative": said(chance.choice(others)),
                                              "language": language})
    return write_lines(folder, splits)


MAKERS = {"sentiment": sentiment("en"), "sentiment_zh": sentiment("zh"), "entailment": entailment, "similarity": similarity,
          "risk_factors": risk_factors, "names": names("en"), "names_zh": names("zh"), "questions": questions("en"),
          "questions_zh": questions("zh"), "reading": reading, "summaries": summaries, "translation": translation, "dialogue": dialogue,
          "retellings": retellings}

if __name__ == "__main__":
    main()
