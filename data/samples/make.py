"""Make the sample data: the hand-written cores in `cores/` become `SCENARIO.jsonl`, seeded and repeatable to the byte.

    python data/samples/make.py [--scenario NAME] [--seed 7] [--out FOLDER]

A core is a situation with several phrasings and its answer. A record is one phrasing with its slots filled and, for about
two in five, a small slip of typing (`noise.py`). Train, validation and test are cut by core, stratified by the first label
field, so that no situation of the test set is seen in training. Where a scenario's answers follow from a rule, a module
`SCENARIO_rule.py` makes the phrasings from frames. The untidied version goes to `raw/`. This file needs
nothing but the standard library. See README.md for the card.
"""

import argparse
import hashlib
import importlib
import json
import os
import random
import re
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import noise  # noqa: E402

SCENARIOS = HERE.parents[1] / "labkit" / "scenarios"
LANGUAGES = ("en", "zh")
LEAST = {"en": 400, "zh": 120}
MOST = {"en": 420, "zh": 180}
SHARES = {"test": 0.22, "validation": 0.08}
NOISY = 0.4
GRAM = 5  # words in English, characters in Chinese
NEAR = 0.5  # Jaccard similarity of the grams from which two texts count as near-duplicates
MONTHS = "January February March April May June July August September October November December".split()
AMOUNTS = (19, 25, 39, 48, 65, 79, 99, 120, 149, 210, 260, 340, 480, 750, 1200)

Core = dict[str, Any]  # core, answer, phrasings: [{text, answer}]; where a rule makes them also meta in each phrasing


class Broken(Exception):
    """Something in the cores or slots is wrong: what and where, in one line."""


def read_scenario(name: str) -> dict[str, Any]:
    """The scenario's TOML as it stands."""
    with (SCENARIOS / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def read_cores(name: str, language: str, fields: list[dict[str, Any]], seed: int) -> tuple[list[Core], dict[str, str]]:
    """The cores of one scenario and language, and the split of each; Broken names file and line of a wrong one."""
    path = HERE / "cores" / f"{name}.{language}.jsonl"
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            if line.strip():
                lines.append({**json.loads(line), "line": number})
        except (ValueError, TypeError) as error:
            raise Broken(f"{path}, line {number}: not a JSON object: {error}") from None
    if (HERE / f"{name}_rule.py").exists():
        rule = importlib.import_module(f"{name}_rule")
        splits = split_cores({line["core"]: line["kind"] for line in lines if "frame" in line}, seed)
        return rule.expand(lines, language, splits, seed), splits
    label = next(field["name"] for field in fields if field["kind"] == "label")
    cores = [_checked(line, fields, path) for line in lines]
    twice = [core for core, count in Counter(core["core"] for core in cores).items() if count > 1]
    if twice:
        raise Broken(f"{path}: these cores stand there twice: {', '.join(twice)}")
    return cores, split_cores({core["core"]: core["answer"][label] for core in cores}, seed)


def _checked(line: dict[str, Any], fields: list[dict[str, Any]], path: Path) -> Core:
    where = f"{path}, line {line['line']}"
    if missing := {"core", "answer", "phrasings"} - set(line):
        raise Broken(f"{where}: lacks {', '.join(sorted(missing))}")
    phrasings = [{"text": phrasing} if isinstance(phrasing, str) else phrasing for phrasing in line["phrasings"]]
    for phrasing in phrasings:
        answer = {**line["answer"], **phrasing.get("answer", {})}
        if set(answer) != {field["name"] for field in fields}:
            raise Broken(f"{where}: the answer has the fields {', '.join(answer)}")
        for field in fields:
            value = answer[field["name"]]
            if field["kind"] == "label" and value not in {label["value"] for label in field["labels"]}:
                raise Broken(f"{where}: {field['name']} has no label {value!r}")
            if field["kind"] == "text" and not (isinstance(value, str) and value.strip()):
                raise Broken(f"{where}: {field['name']} is no text")
            if field["kind"] == "number" and not field["minimum"] <= value <= field["maximum"]:
                raise Broken(f"{where}: {field['name']} {value} is out of range")
    return {"core": line["core"], "answer": line["answer"],
            "phrasings": [{"text": phrasing["text"], "answer": phrasing.get("answer", {})} for phrasing in phrasings]}


def split_cores(strata: dict[str, str], seed: int) -> dict[str, str]:
    """{core: split}: of each stratum 22% test and 8% validation in the long run; `strata` is {core: stratum}."""
    members = defaultdict(list)
    for core, stratum in strata.items():
        members[stratum].append(core)
    found, owed = {}, dict.fromkeys(SHARES, 0.0)
    for stratum in sorted(members):
        cores = sorted(members[stratum], key=lambda core: hashlib.sha256(f"{seed}:{core}".encode()).digest())
        left = list(cores)
        for split, share in SHARES.items():
            owed[split] += share * len(cores)
            take = min(max(0, round(owed[split])), len(left) - 1)
            owed[split] -= take
            found |= dict.fromkeys(left[:take], split)
            left = left[take:]
        found |= dict.fromkeys(left, "train")
    return found


def slot_values(language: str, slots: dict[str, Any], draw: random.Random) -> dict[str, str]:
    """One value for every slot."""
    words = {name: draw.choice(values) for name, values in sorted(slots[language].items())}
    month, day, amount = draw.randint(1, 12), draw.randint(1, 28), draw.choice(AMOUNTS)
    return words | {
        "order_id": f"{draw.choice('ABCDEFGHKMPRT')}{draw.randint(100000, 999999)}",
        "date": f"{MONTHS[month - 1]} {day}" if language == "en" else f"{month}月{day}日",
        "amount": f"${amount:,}" if language == "en" else f"{amount}元",
        "days": str(draw.randint(2, 14)), "months": str(draw.randint(2, 18)), "age": str(draw.randint(19, 82)),
    }


def fill(value: Any, values: dict[str, str], core: str) -> Any:
    """The text with its slots filled; other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return re.sub(r"\{(\w+)\}", lambda match: values[match.group(1)], value).strip()
    except KeyError as error:
        raise Broken(f"core {core}: there is no slot {error}") from None


def content_id(record: dict[str, Any]) -> str:
    """16 hexadecimal digits of the sha256 over scenario, language, messages and answer."""
    content = {key: record[key] for key in ("scenario", "language", "messages", "answer")}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_records(name: str, seed: int) -> list[dict[str, Any]]:
    """All records of a scenario, by language, core and id.

    A training record that nearly repeats a test or validation record is left out and named on the screen.
    """
    fields = read_scenario(name)["fields"]
    with (HERE / "slots.toml").open("rb") as file:
        slots = tomllib.load(file)
    found = []
    for language in LANGUAGES:
        if not (HERE / "cores" / f"{name}.{language}.jsonl").exists():
            print(f"{name}: no cores in {language} yet", file=sys.stderr)
            continue
        cores, splits = read_cores(name, language, fields, seed)
        found += _language_records(name, language, fields, cores, splits, slots, seed)
    return sorted(found, key=lambda record: (record["language"], record["meta"]["core"], record["id"]))


def _language_records(name, language, fields, cores, splits, slots, seed) -> list[dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {}

    def put(core: Core, number: int, turn: int) -> None:
        phrasing, draw = core["phrasings"][number], random.Random(f"{seed}:{core['core']}:{number}:{turn}")
        values = slot_values(language, slots, draw)
        text = fill(phrasing["text"], values, core["core"])
        if turn or draw.random() < NOISY:
            text = noise.slip(text, language, draw)
        answer = {**core["answer"], **phrasing["answer"]}
        record = {"scenario": name, "language": language, "messages": [{"role": "user", "content": text.strip()}],
                  "answer": {field["name"]: fill(answer[field["name"]], values, core["core"]) for field in fields},
                  "source": "labkit-samples", "license": "CC0-1.0", "split": splits[core["core"]],
                  "meta": {"core": core["core"], **phrasing.get("meta", {})}}
        records.setdefault(content_id(record), {"id": content_id(record), **record})

    for core, number in _chosen(cores, MOST[language], seed):
        put(core, number, 0)
    _leave_out_near_duplicates(records)
    training = [(core, number) for core in cores if splits[core["core"]] == "train" for number in range(len(core["phrasings"]))]
    random.Random(f"{seed}:{name}:{language}:extra").shuffle(training)
    for turn in range(1, 20):  # noisy variants of training cores, until there are enough
        for core, number in training:
            if len(records) >= LEAST[language]:
                return list(records.values())
            put(core, number, turn)
            if len(records) == LEAST[language]:
                _leave_out_near_duplicates(records)
    raise Broken(f"{name}.{language}: {len(records)} records, too few cores for {LEAST[language]}")


def _chosen(cores: list[Core], most: int, seed: int) -> list[tuple[Core, int]]:
    """At most `most` (core, number of the phrasing); the cores with most phrasings give some up first."""
    kept = {core["core"]: list(range(len(core["phrasings"]))) for core in cores}
    draw = random.Random(f"{seed}:chosen")
    while sum(map(len, kept.values())) > most:
        longest = max(map(len, kept.values()))
        core = draw.choice(sorted(name for name, numbers in kept.items() if len(numbers) == longest))
        kept[core].remove(draw.choice(kept[core]))
    return [(core, number) for core in cores for number in kept[core["core"]]]


def grams(text: str, language: str) -> frozenset:
    """The text's word 5-grams (English) or character 5-grams (Chinese), without case and punctuation."""
    words = re.findall(r"\w+", text.lower()) if language == "en" else re.findall(r"\w", text)
    return frozenset(tuple(words[place:place + GRAM]) for place in range(max(1, len(words) - GRAM + 1)))


def similarity(one: frozenset, other: frozenset) -> float:
    """Jaccard similarity of two sets of grams."""
    return len(one & other) / len(one | other)


def _leave_out_near_duplicates(records: dict[str, dict[str, Any]]) -> None:
    known = {key: grams(record["messages"][0]["content"], record["language"]) for key, record in records.items()}
    held = [key for key, record in records.items() if record["split"] != "train"]
    for key in [key for key, record in records.items() if record["split"] == "train"]:
        for other in held:
            if similarity(known[key], known[other]) >= NEAR:
                print(f"left out of training: core {records[key]['meta']['core']}, nearly the same text as core "
                      f"{records[other]['meta']['core']} ({records[other]['split']})", file=sys.stderr)
                del records[key]
                break


def write(path: Path, content: bytes) -> None:
    """Write the file whole: beside it first, then renamed into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def make(name: str, seed: int, out: Path) -> None:
    """Write a scenario's records, its raw table, and the list of what is planted there."""
    records, fields = make_records(name, seed), read_scenario(name)["fields"]
    if not records:
        raise Broken(f"{name} has no cores in {HERE / 'cores'}")
    write(out / f"{name}.jsonl", "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())
    table, planted = noise.dirty_table(_distinct([record for record in records if record["split"] == "train"]), fields, seed)
    write(out / "raw" / f"{name}.csv", table)
    path = out / "raw" / "PLANTED.json"
    everything = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write(path, _one_fault_a_line({**everything, name: planted}).encode())
    counted = Counter((record["language"], record["split"]) for record in records)
    print(f"{name}: {len(records)} records:", ", ".join(f"{' '.join(key)} {count}" for key, count in sorted(counted.items())))


def _distinct(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records without those that nearly repeat an earlier one."""
    kept: list[tuple[dict[str, Any], frozenset]] = []
    for record in records:
        own = grams(record["messages"][0]["content"], record["language"])
        if not any(similarity(own, other) >= NEAR for _, other in kept):
            kept.append((record, own))
    return [record for record, _ in kept]


def _one_fault_a_line(planted: dict[str, dict[str, list]]) -> str:
    """The list as JSON, in a form that reads well and compares well."""
    blocks = []
    for name, kinds in sorted(planted.items()):
        entries = [f"  {json.dumps(kind)}: [\n   " + ",\n   ".join(json.dumps(fault, ensure_ascii=False) for fault in faults) + "\n  ]"
                   for kind, faults in kinds.items()]
        blocks.append(f" {json.dumps(name)}: {{\n" + ",\n".join(entries) + "\n }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def main() -> None:
    known = sorted(path.stem for path in SCENARIOS.glob("*.toml"))
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scenario", choices=known, help="only this one")
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--out", type=Path, default=HERE)
    chosen = arguments.parse_args()
    with_cores = [name for name in known if any((HERE / "cores").glob(f"{name}.*.jsonl"))]
    problems = []
    for name in [chosen.scenario] if chosen.scenario else with_cores:
        try:
            make(name, chosen.seed, chosen.out)
        except Broken as problem:
            problems.append(str(problem))
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()
