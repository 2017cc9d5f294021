"""Make the sample data: the hand-written cores in `cores/` become `SCENARIO.jsonl`, seeded and repeatable to the byte.

    .venv/bin/python data/samples/make.py [--scenario NAME] [--seed 7] [--out FOLDER]

A core is a situation with several phrasings and its answer. A record is one phrasing with its slots filled and, for about two in
five, a little noise as people make it. Train, validation and test are cut by core, stratified by the first label field, so that no
situation of the test set is seen in training. See README.md for the card.
"""

import argparse
import json
import random
import re
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
sys.path.insert(0, str(HERE))

import finance  # noqa: E402

from labkit import files, records, scenarios  # noqa: E402
from labkit.errors import LabError  # noqa: E402
from labkit.scenarios import Scenario, answers  # noqa: E402

LEAST = {"en": 408, "zh": 126}
MOST = {"en": 480, "zh": 160}
SHARES = (("test", 0.22), ("validation", 0.08))
NOISY = 0.4
_NEIGHBOURS = {"a": "s", "e": "r", "i": "o", "o": "p", "t": "r", "n": "m", "s": "d", "r": "t", "l": "k", "u": "i", "d": "f", "c": "v"}
_HOMOPHONES = (("的", "得"), ("在", "再"), ("做", "作"), ("已", "以"), ("帐", "账"), ("像", "象"))


def read_cores(name: str, language: str) -> list[dict[str, Any]]:
    """The cores of one scenario and language; LabError names file and line of a broken one."""
    path = HERE / "cores" / f"{name}.{language}.jsonl"
    if not path.exists():
        raise LabError(f"{path} does not exist")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            core = json.loads(line)
            phrasings = [{"text": phrasing} if isinstance(phrasing, str) else phrasing for phrasing in core["phrasings"]]
            found.append({"core": core["core"], "answer": core["answer"],
                          "phrasings": [{"answer": {}, **phrasing} for phrasing in phrasings]})
        except (ValueError, KeyError, TypeError) as error:
            raise LabError(f"{path}, line {number}: {error!r}") from None
    return found


def split_of(cores: list[dict[str, Any]], field: str, draw: random.Random) -> dict[str, str]:
    """{core: split}, stratified by the answer's `field`: of each value's cores 22% test and 8% validation in the long run."""
    by_value = defaultdict(list)
    for core in cores:
        by_value[core["answer"][field]].append(core["core"])
    found, owed = {}, {name: 0.0 for name, _ in SHARES}
    for value in sorted(by_value):
        names = sorted(by_value[value])
        draw.shuffle(names)
        for split, share in SHARES:
            owed[split] += share * len(names)
            take = min(round(owed[split]), max(0, len(names) - 1))
            owed[split] -= take
            found |= {name: split for name in names[:take]}
            names = names[take:]
        found |= {name: "train" for name in names}
    return found


def slot_values(language: str, slots: dict[str, Any], draw: random.Random, scale: int = 1) -> dict[str, str]:
    """One value for every slot; amounts of money are multiplied by `scale`."""
    words = {name: draw.choice(values) for name, values in sorted(slots[language].items())}
    day, month = draw.randint(1, 28), draw.randint(1, 12)
    months = "January February March April May June July August September October November December".split()
    amount = draw.choice([19, 25, 39, 48, 65, 79, 99, 120, 149, 210, 260, 340, 480, 750, 1200]) * scale
    return words | {
        "order_id": f"{draw.choice('ABCDEFGHKMPRT')}{draw.randint(100000, 999999)}",
        "date": f"{months[month - 1]} {day}" if language == "en" else f"{month}月{day}日",
        "amount": f"${amount:,}" if language == "en" else f"{amount}元",
        "days": str(draw.randint(2, 14)), "months": str(draw.randint(2, 18)), "age": str(draw.randint(19, 82)),
    }


def fill(value: Any, slots: dict[str, str]) -> Any:
    """The text with its slots filled; other values as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: slots[match.group(1)], value) if isinstance(value, str) else value


def noise(text: str, language: str, draw: random.Random) -> str:
    """The text as somebody in a hurry would have typed it."""
    return draw.choice(_NOISE[language])(text, draw)


def _typo(text: str, draw: random.Random) -> str:
    places = [place for place, character in enumerate(text) if character in _NEIGHBOURS and place]
    for place in draw.sample(places, min(len(places), draw.randint(1, 2))):
        text = text[:place] + _NEIGHBOURS[text[place]] + text[place + 1 :]
    return text


def _swapped(text: str, draw: random.Random) -> str:
    places = [place for place in range(1, len(text) - 2) if text[place : place + 2].isalpha()]
    place = draw.choice(places) if places else 0
    return text[:place] + text[place : place + 2][::-1] + text[place + 2 :]


def _lower(text: str, draw: random.Random) -> str:
    return text.lower()


def _no_stop(text: str, draw: random.Random) -> str:
    return re.sub("[.!?\u3002\uff01\uff1f]+$", "", text)


def _greeting(text: str, draw: random.Random) -> str:
    return draw.choice(["Hi, ", "Hello, ", "Good morning. ", "Hey there, "]) + text


def _greeting_zh(text: str, draw: random.Random) -> str:
    return draw.choice(["你好,", "您好,", "请问一下,", "在吗?"]) + text


def _homophone(text: str, draw: random.Random) -> str:
    for right, wrong in _HOMOPHONES:
        if right in text:
            return text.replace(right, wrong, 1)
    return text


def _half_width(text: str, draw: random.Random) -> str:
    return text.replace("\uff0c", " ").replace("\u3002", "")


_NOISE = {"en": (_typo, _swapped, _lower, _no_stop, _greeting), "zh": (_no_stop, _greeting_zh, _homophone, _half_width)}


def make_records(scenario: Scenario, seed: int) -> list[dict[str, Any]]:
    """All records of a scenario in their order: by language, split and core."""
    with (HERE / "slots.toml").open("rb") as file:
        slots = tomllib.load(file)
    rows = []
    for language in scenarios.LANGUAGES:
        draw = random.Random(f"{seed}:{scenario.name}:{language}")
        if scenario.name == finance.SCENARIO:
            cores = finance.read_frames(HERE / "cores" / f"{scenario.name}.{language}.jsonl")
            each = -(-LEAST[language] // len(cores))
            for core in cores:
                fresh = lambda: slot_values(language, slots, draw, 100)  # noqa: E731, B023
                core |= {"answer": {"kind": core["kind"]}, "phrasings": finance.expand(core, language, each, fresh, draw)}
            splits = split_of(cores, "kind", draw)
        else:
            cores = read_cores(scenario.name, language)
            splits = split_of(cores, scenario.label_fields[0].name, draw)
        texts = [(core, phrasing) for core in cores for phrasing in core["phrasings"]][: MOST[language]]
        training = [pair for pair in texts if splits[pair[0]["core"]] == "train"]
        extra = [draw.choice(training) for _ in range(max(0, LEAST[language] - len(texts)))]
        for number, (core, phrasing) in enumerate(texts + extra):
            values = slot_values(language, slots, draw)
            text = fill(phrasing["text"], values)
            if number >= len(texts) or draw.random() < NOISY:
                text = noise(text, language, draw)
            answer = {name: fill(value, values) for name, value in {**core["answer"], **phrasing["answer"]}.items() if name != "kind"}
            meta = {"core": core["core"], **({"profile": phrasing["profile"]} if "profile" in phrasing else {})}
            rows.append(records.make(scenario.name, language, [{"role": "user", "content": answers.tidy_text(text)}],
                                     answers.tidy(scenario, answer), source="labkit-samples", license="CC0-1.0",
                                     split=splits[core["core"]], meta=meta))
    seen: dict[str, dict[str, Any]] = {}
    for row in rows:
        seen.setdefault(row["id"], row)
    return sorted(seen.values(), key=lambda row: (row["language"], row["split"], row["meta"]["core"], row["id"]))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scenario", choices=scenarios.names(), help="only this one")
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--out", type=Path, default=HERE)
    chosen = arguments.parse_args()
    for name in [chosen.scenario] if chosen.scenario else scenarios.names():
        scenario = scenarios.load(name)
        rows = make_records(scenario, chosen.seed)
        files.write_text(chosen.out / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        print(f"{name}: {len(rows)} records")


if __name__ == "__main__":
    main()
