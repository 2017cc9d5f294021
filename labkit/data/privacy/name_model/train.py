"""Makes the detector's weights: `.venv/bin/python -m labkit.data.privacy.name_model.train` (about a minute on one core).

Deterministic. Needs Faker (a development dependency) for the names, and reads `../shared/data` for ordinary English words and
sentences; none of those texts is stored. `--check` trains on four fifths of the templates and of the name parts, says how well it
reads the rest, and writes nothing.
"""

import argparse
import csv
import hashlib
import json
import random
import re
import time
from binascii import crc32
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from labkit import places
from labkit.data.privacy.name_model import chinese, english, generate, lists, store
from labkit.data.privacy.name_model.generate import Labelled

SEED = 20
TEXTS = {"en": 40_000, "zh": 50_000}
SHARED = Path(__file__).parents[4].parent / "shared" / "data"
LOWER = re.compile(r"(?<![A-Za-z'’-])[a-z]+(?:['’-][a-z]+)*(?![A-Za-z])")
BUCKETS = (2, 3, 10, 50)  # an ordinary word's bucket counts how many of these its frequency reaches
Chain = list[tuple[list[int], int]]  # a segment: for each token its features and its label


def main() -> None:
    """Train and write the weights, or check the settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="train on four fifths, read the rest, write nothing")
    parser.add_argument("--language", choices=("en", "zh"), action="append", help="both where not given")
    parser.add_argument("--show", action="store_true", help="with --check: list some of what went wrong")
    options = parser.parse_args()
    started = time.perf_counter()
    for language in options.language or ["en", "zh"]:
        if options.check:
            reader = trained(language, lambda part: generate.seen(part) and not held_out(part), lambda line: not held_out(line))
            names = generate.Names(lambda part: generate.seen(part) and held_out(part))
            texts = drawn(language, names, [line for line in templates(language) if held_out(line)], 3000, SEED + 1, use=held_out)
            print(language, json.dumps(judged(reader, texts, options.show)), f"{time.perf_counter() - started:.0f} s", flush=True)
        else:
            store.write(language, trained(language, generate.seen, lambda line: True))
            print(f"{language}: written after {time.perf_counter() - started:.0f} s", flush=True)


def held_out(line: str) -> bool:
    """Whether a template or a part of a name is of the fifth that settings are chosen on."""
    return hashlib.sha256(line.encode()).digest()[1] % 5 == 0


def templates(language: str) -> list[str]:
    """All templates of the language."""
    return lists.lines(f"templates.{language}.txt")


def drawn(language: str, names: generate.Names, lines: list[str], count: int, seed: int, share: float = 0.5,
          use: Callable[[str], bool] = lambda line: True) -> list[Labelled]:
    """Texts from these templates."""
    draw = random.Random(seed)
    texts = generate.Texts(language, lines, names, use)
    return [texts.one(draw, share) for _ in range(count)]


def judged(reader, texts: list[Labelled], show: bool = False) -> dict[str, float]:
    """Precision and recall by exact place, and by overlap."""
    exact = overlap = found_count = truth_count = met = 0
    wrong: Counter = Counter()
    for each in texts:
        found = [(start, end) for start, end, _ in reader.find(each.text)]
        found_count += len(found)
        truth_count += len(each.spans)
        exact += len(set(found) & set(each.spans))
        overlap += sum(any(start < other[1] and other[0] < end for other in each.spans) for start, end in found)
        met += sum(any(start < other[1] and other[0] < end for other in found) for start, end in each.spans)
        if show and set(found) != set(each.spans):
            said = [each.text[start:end] for start, end in sorted(set(found) - set(each.spans))]
            missed = [each.text[start:end] for start, end in sorted(set(each.spans) - set(found))]
            wrong[f"+{said} -{missed}: {each.text!r}"] += 1
    for line, _ in list(wrong.items())[:60]:
        print(line)
    return {"precision": round(exact / max(1, found_count), 4), "recall": round(exact / max(1, truth_count), 4),
            "overlap_precision": round(overlap / max(1, found_count), 4), "overlap_recall": round(met / max(1, truth_count), 4),
            "names": truth_count}


def trained(language: str, keep: Callable[[str], bool], templates: Callable[[str], bool]):
    """A reader trained on the names and the templates that are to be used."""
    lines = [line for line in lists.lines(f"templates.{language}.txt") if templates(line)]
    return (english_reader if language == "en" else chinese_reader)(lines, generate.Names(keep), templates)


def english_reader(lines: list[str], names: generate.Names, use: Callable[[str], bool]) -> english.Reader:
    """Train the chain."""
    counts = word_counts(lines)
    vocabulary = vocabulary_of(counts, lines)
    names.words = sorted(word.capitalize() for word, count in counts.items() if count >= 10 and word.isalpha() and len(word) > 2
                         and generate.seen(word.capitalize()) and word not in english.NEVER and word not in english.PARTICLES)
    names.things = sorted({token for line in [*lines, *(each for values in lists.slots("en").values() for each in values)]
                           for token in re.findall(r"[A-Z][a-z]{2,}", generate.SLOT.sub(" ", line))
                           if generate.seen(token) and token.lower() not in english.NEVER and not vocabulary.ordinary(token.lower())})
    texts = drawn("en", names, lines, TEXTS["en"], SEED, use=use) + mixed(names, 1500, use)
    texts += [Labelled(each, ()) for each in plain_english(vocabulary)]
    draw = random.Random(SEED)
    chains: list[Chain] = []
    seen: Counter = Counter()
    raw = []
    for each in texts:
        for features, labels in _english_chains(each, vocabulary, draw):
            for line in features:
                seen.update(line)
            raw.append((features, labels))
    index = {feature: at for at, feature in enumerate(sorted(feature for feature, count in seen.items() if count > 1))}
    chains = [[([index[feature] for feature in line if feature in index], label) for line, label in zip(features, labels, strict=True)]
              for features, labels in raw]
    import numpy

    from labkit.data.privacy.name_model import fit

    weights, steps = fit.chain(chains, numpy.array([english.group(feature) for feature in index]), SEED)
    kept = {crc32(feature.encode()): (float(weights[at, 0]), float(weights[at, 1])) for feature, at in index.items()
            if abs(weights[at]).max() >= 0.05}
    return english.Reader(kept, steps, vocabulary)


def _english_chains(each: Labelled, vocabulary: english.Vocabulary, draw: random.Random):
    """The segments of a text as features and labels; a quarter of the known capitalised words are hidden, so that places tell too."""
    matches = list(english.TOKEN.finditer(each.text))
    words = [english.word(match.group(), vocabulary, hidden=match.group()[0].isupper() and draw.random() < 0.1) for match in matches]
    style = english.style_of(each.text)
    for begin, end in english.segments(words, [at for at, seen in enumerate(words) if seen.candidate == 1]):
        labels = []
        for at in range(begin, end):
            start = matches[at].start()
            span = next((span for span in each.spans if span[0] <= start < span[1]), None)
            labels.append(0 if span is None else 1 if span[0] == start or (labels and labels[-1] == 0) or at == begin else 2)
        yield [list(words[at].own) + english.context(words, at, style) for at in range(begin, end)], labels


def mixed(names: generate.Names, count: int, use: Callable[[str], bool]) -> list[Labelled]:
    """Chinese texts with names in Latin letters."""
    draw = random.Random(SEED + 2)
    others = {"s", "k", "m", "d"}
    lines = [line for line in templates("zh") if use(line) and not others & set(generate.SLOT.findall(line))]
    texts = generate.Texts("zh", lines, names, use)
    texts.latin_names = True
    return [texts.one(draw, 0.5) for _ in range(count)]


def word_counts(lines: list[str]) -> Counter:
    """How often ordinary texts have each word in lower case."""
    counts: Counter = Counter()
    for text in [*shared_texts(), *sample_texts("en"), *(generate.SLOT.sub(" ", line) for line in lines)]:
        counts.update(LOWER.findall(text))
    for values in lists.slots("en").values():
        for value in values:
            counts.update(LOWER.findall(generate.SLOT.sub(" ", value)))
    from faker.providers.lorem.en_US import Provider

    for each in Provider.word_list:
        counts[each.lower()] += 2
    return counts


def vocabulary_of(counts: Counter, lines: list[str]) -> english.Vocabulary:
    """The bucket of every ordinary word, and the words that are features themselves."""
    buckets = {crc32(each.encode()): sum(count >= limit for limit in BUCKETS) for each, count in counts.items() if count >= BUCKETS[0]}
    known = {each for each, count in counts.items() if count >= 30}
    fixed = [generate.SLOT.sub(" ", line) for line in lines]
    fixed += [generate.SLOT.sub(" ", value) for values in lists.slots("en").values() for value in values]
    for text in fixed + generate.MONTHS + generate.DAYS:
        known |= {token.lower() for token in english.TOKEN.findall(text) if token[0].isalpha()}
    return english.Vocabulary(buckets, {crc32(each.encode()) for each in known})


def shared_texts() -> list[str]:
    """Texts of the public data sets: ordinary English."""
    texts = []
    for each in json.loads((SHARED / "pubmedqa_labeled.json").read_text(encoding="utf-8")).values():
        texts += [each["QUESTION"], *each["CONTEXTS"], each["LONG_ANSWER"]]
    for each in json.loads((SHARED / "legal_summaries.json").read_text(encoding="utf-8")).values():
        texts += [each["original_text"], each["reference_summary"]]
    with (SHARED / "banking77_train.csv").open(encoding="utf-8") as file:
        texts += [row["text"] for row in csv.DictReader(file)]
    return texts


def sample_texts(language: str) -> list[str]:
    """The texts of the sample data, without those that may have a name of its slots."""
    import tomllib

    folder = places.samples_folder()
    known = tomllib.loads((folder / "slots.toml").read_text(encoding="utf-8"))[language]["name"]
    texts = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["language"] == language:
                text = record["messages"][0]["content"]
                if not any(name.lower() in text.lower() for name in known):
                    texts.append(text)
    return texts


def plain_english(vocabulary: english.Vocabulary) -> list[str]:
    """Sentences of the public and the sample data without a part of a name of Faker's, of either hash, that is no word of the vocabulary in
    small letters."""
    parts = {part.lower() for locale in generate.LATIN for sort in generate.parts(locale) for part in sort}
    draw = random.Random(SEED + 3)

    def free(text: str) -> bool:
        tokens = english.TOKEN.findall(text)
        return not any(token.lower() in parts and (token[0].isupper() or not vocabulary.ordinary(token)) for token in tokens)

    texts = []
    for text in [*shared_texts(), *sample_texts("en")]:
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            if 10 < len(sentence) < 400 and free(sentence):
                texts.append(sentence)
        if len(text) > 400:  # the legal texts come without full stops
            words = text.split(" ")
            chunks = [" ".join(words[at:at + 25]) for at in range(0, min(len(words), 200), 25) if text.islower()]
            texts += [chunk for chunk in chunks if free(chunk)]
    draw.shuffle(texts)
    return texts[:10_000] + [text for text in sample_texts("en") for _ in range(2) if free(text)]


def chinese_reader(lines: list[str], names: generate.Names, use: Callable[[str], bool]) -> chinese.Reader:
    """Train the choice among readings."""
    common = chinese.common_pairs()
    texts = drawn("zh", names, lines, TEXTS["zh"], SEED, use=use) + [Labelled(each, ()) for each in sample_texts("zh")] * 6
    seen: Counter = Counter()
    raw: list[tuple[list[list[str]], int]] = []
    for each in texts:
        text = chinese.simplify(each.text)
        for shared, readings in chinese.candidates(text, common):
            target = next((at for at, reading in enumerate(readings) if reading[:2] in each.spans), -1)
            raw.append(([shared + reading[2] for reading in readings], target))
        for starts, ends in chinese.dotted(text):
            raw.append(([reading[2] for reading in starts], next((at for at, reading in enumerate(starts)
                                                                  if any(span[0] == reading[0] for span in each.spans)), -1)))
            raw.append(([reading[2] for reading in ends], next((at for at, reading in enumerate(ends)
                                                                if any(span[1] == reading[1] for span in each.spans)), -1)))
    for readings, _ in raw:
        for features in readings:
            seen.update(features)
    index = {feature: at for at, feature in enumerate(sorted(feature for feature, count in seen.items() if count > 2))}
    choices = [([[index[feature] for feature in features if feature in index] for features in readings], target)
               for readings, target in raw]
    import numpy

    from labkit.data.privacy.name_model import fit

    weights = fit.choice(choices, numpy.array([chinese.group(feature) for feature in index]), SEED)
    kept = {feature: float(weights[at]) for feature, at in index.items() if abs(weights[at]) >= 0.05}
    return chinese.Reader(kept, common)


def known_parts() -> frozenset[str]:
    """The parts of names that training may see: those of an even hash, and Faker's that the templates, slots or ordinary words have."""
    every = {part for locale in (*generate.LATIN, *generate.CHINESE) for sort in generate.parts(locale) for part in sort}
    seen = {part for part in every if generate.even(part)}
    vocabulary, words = store.read("en").vocabulary, lists.ordinary_words()
    closed = english.PARTICLES | english.NEVER
    seen |= {part for part in every if chinese.simplify(part) in words or part.lower() in closed}
    seen |= {part for part in every if vocabulary.known(part.lower()) or vocabulary.ordinary(part.lower())}
    characters = lists.characters()
    return frozenset(seen | set(characters["surnames"]) | set(characters["compound"].split()))


if __name__ == "__main__":
    main()
