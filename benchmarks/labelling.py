"""What the labelling server does with 10,000 and with 100,000 records: logging, search, filters, sorts, similarity, progress.

    .venv/bin/python benchmarks/labelling.py [--quick] [--records 10000] [--more 100000] [--repeats 40] [--seed 0]

Claims, the last line's JSON:
    log_records_per_s   records/s through the `argilla` client's `log`, each with 6 suggestions, metadata and a vector of 64 numbers
    p95_ms_10k          milliseconds: of all operations' 95th percentiles the worst, over 10,000 records
    p95_ms_100k         the same over 100,000
    server_gb           the server's peak of resident memory over the whole run, GB of 1e9 bytes

An operation is one request over HTTP as the web page makes it: ten records with their suggestions and responses, the total, and whatever
the search engine needs for it. Words, values and vectors change from repetition to repetition. The records beyond the first 10,000 are
written straight into the server's database while it is ended, as rows like those that it writes itself; at the next start the search engine
finds out by itself what it has not indexed (`catch_up_s`). One record in ten has responses; the page's reader has answered half of those.
"""

import argparse
import json
import os
import random
import re
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DIMENSIONS = 64
LABELS = tuple(f"label {number}" for number in range(20))
TAGS = ("urgent", "angry", "repeated", "vip", "重复")
TOPICS = tuple(f"topic {number}" for number in range(12))
CHINESE = ("退款", "信用卡", "银行卡", "订单", "丢了", "迟到", "手机", "没有", "收到", "我的", "什么时候", "怎么", "账户", "余额", "转账",
           "手续费", "汇率", "已经", "还是", "请问")


def made(draw: random.Random, number: int, words: list[str]) -> dict[str, Any]:
    """Everything about one record, in the API's form. Three in ten are Chinese; English words follow Zipf's law, so that the first stands
    in most texts and the last ones in a handful."""
    if number % 10 < 3:
        text = "".join(draw.choices(CHINESE, k=draw.randint(6, 18)))
    else:
        text = " ".join(words[min(int(draw.paretovariate(0.7)) - 1, len(words) - 1)] for _ in range(draw.randint(10, 40)))
    label = draw.choice(LABELS)
    return {
        "external_id": f"r{number}", "fields": {"text": text},
        "metadata": {"topic": draw.choice(TOPICS), "length": len(text), "weight": round(draw.gauss(0, 1), 4)},
        "vector": [round(draw.gauss(0, 1), 5) for _ in range(DIMENSIONS)],
        "suggestions": {"kind": (label, round(draw.random(), 4)), "second": (draw.choice(LABELS), round(draw.random(), 4)),
                        "tags": (draw.sample(TAGS, 2), [round(draw.random(), 4) for _ in range(2)]),
                        "quality": (draw.randint(1, 5), round(draw.random(), 4)), "comment": (text[:40], round(draw.random(), 4)),
                        "order": (draw.sample(("a", "b", "c"), 3), None)},
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a smoke run under a minute: 200 records, then 1,000")
    arguments.add_argument("--records", type=int, default=10_000, help="logged through the client")
    arguments.add_argument("--more", type=int, default=100_000, help="how many there are in the second half")
    arguments.add_argument("--repeats", type=int, default=40)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    first, second, repeats = (200, 1000, 3) if options.quick else (options.records, options.more, options.repeats)
    folder = Path(tempfile.mkdtemp(prefix="labkit-labelling-"))
    from labkit.labeling import server

    try:
        result = measure(folder, first, second, repeats, options.seed)
    finally:
        server.down(folder)
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result))


def measure(folder: Path, first: int, second: int, repeats: int, seed: int) -> dict[str, Any]:
    from labkit.labeling import environment, server

    draw = random.Random(seed)
    words = ["".join(draw.choices("bcdfglmnprst", k=2)) + draw.choice("aeiou") + "".join(draw.choices("bcdfgklmnprstaeiou", k=3))
             for _ in range(20_000)]
    detail: dict[str, Any] = {"records": first, "more_records": second, "repeats": repeats, "cores": os.cpu_count()}
    peaks = []
    environment.python()  # made where it is missing, which is no part of a start
    start = time.perf_counter()
    up = server.up(folder, free_port(), annotators=("reader",))
    detail["first_start_s"] = round(time.perf_counter() - start, 1)
    side = Side(up.url, up.owner_key, next(each.api_key for each in up.accounts if each.username == "reader"), words, seed)
    seconds = side.log([made(draw, number, words) for number in range(first)])
    detail["log_s"] = round(seconds, 1)
    print(f"{first} records logged in {seconds:.1f} s", flush=True)
    side.respond(list(range(0, first, 10)))
    detail["operations_10k"] = side.run(repeats, first)
    peaks.append(peak_bytes(up.pid))
    detail["server_gb_10k"] = round(peaks[-1] / 1e9, 3)
    server.down(folder)

    start = time.perf_counter()
    fill(folder / server.DATABASE, (made(draw, number, words) for number in range(first, second)), side)
    detail["fill_s"] = round(time.perf_counter() - start, 1)
    start = time.perf_counter()
    up = server.up(folder)
    side.everything(second)
    detail["catch_up_s"] = round(time.perf_counter() - start, 1)
    print(f"{second} records, caught up in {detail['catch_up_s']} s", flush=True)
    peaks.append(peak_bytes(up.pid))
    server.down(folder)
    start = time.perf_counter()
    up = server.up(folder)
    side.everything(second)
    detail["next_start_s"] = round(time.perf_counter() - start, 1)
    detail["operations_100k"] = side.run(repeats, second)
    peaks.append(peak_bytes(up.pid))
    detail["disk_gb"] = round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9, 3)
    detail["peaks_gb"] = [round(peak / 1e9, 3) for peak in peaks]
    worst = {size: max(detail[f"operations_{size}"].items(), key=lambda item: item[1]["p95_ms"]) for size in ("10k", "100k")}
    detail["slowest"] = {size: name for size, (name, _) in worst.items()}
    return {"claims": {"p95_ms_10k": worst["10k"][1]["p95_ms"], "p95_ms_100k": worst["100k"][1]["p95_ms"],
                       "server_gb": round(max(peaks) / 1e9, 3), "log_records_per_s": round(first / seconds, 1)}, "detail": detail}


class Side:
    """The client's side: one dataset, its owner and a reader, and the requests that are timed."""

    def __init__(self, url: str, owner_key: str, reader_key: str, words: list[str], seed: int) -> None:
        import argilla as rg
        import requests

        self.url, self.keys, self.words = url, {"owner": owner_key, "reader": reader_key}, words
        self.draw, self.session = random.Random(seed + 1), requests.Session()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = rg.Argilla(api_url=url, api_key=owner_key)
        settings = rg.Settings(
            fields=[rg.TextField("text")], distribution=rg.TaskDistribution(min_submitted=1),
            questions=[rg.LabelQuestion("kind", labels=list(LABELS)), rg.LabelQuestion("second", labels=list(LABELS), required=False),
                       rg.MultiLabelQuestion("tags", labels=list(TAGS), required=False),
                       rg.RatingQuestion("quality", values=[1, 2, 3, 4, 5], required=False), rg.TextQuestion("comment", required=False),
                       rg.RankingQuestion("order", values=["a", "b", "c"], required=False)],
            metadata=[rg.TermsMetadataProperty("topic"), rg.IntegerMetadataProperty("length"), rg.FloatMetadataProperty("weight")],
            vectors=[rg.VectorField("meaning", dimensions=DIMENSIONS)])
        self.dataset = rg.Dataset("speed", workspace=client.workspaces("lab"), settings=settings, client=client).create()
        self.id = str(self.dataset.id)
        self.question_ids = {question.name: question.id.hex for question in self.dataset.settings.questions}
        self.vector_id = self.dataset.settings.vectors[0].id.hex
        self.metadata_ids = {each.name: str(each.id) for each in self.dataset.settings.metadata}
        self.server_ids: list[str] = []

    def log(self, rows: list[dict[str, Any]]) -> float:
        """Seconds that the client's `log` takes."""
        import argilla as rg

        records = [rg.Record(id=row["external_id"], fields=row["fields"], metadata=row["metadata"], vectors={"meaning": row["vector"]},
                             suggestions=[rg.Suggestion(name, value, score=score, agent="benchmark")
                                          for name, (value, score) in row["suggestions"].items()]) for row in rows]
        start = time.perf_counter()
        self.dataset.records.log(records)
        return time.perf_counter() - start

    def ask(self, method: str, path: str, body: Any = None, user: str = "owner", **parameters: Any) -> Any:
        answer = self.session.request(method, f"{self.url}/api/v1/{path}", json=body, params=parameters, timeout=120,
                                      headers={"X-Argilla-Api-Key": self.keys[user]})
        answer.raise_for_status()
        return answer.json()

    def respond(self, places: list[int]) -> None:
        """The owner answers these records (by their place), the reader every second of them."""
        for offset in range(0, max(places) + 1, 1000):
            items = self.ask("GET", f"datasets/{self.id}/records", offset=offset, limit=1000)["items"]
            self.server_ids += [item["id"] for item in items]
        for user, chosen in (("owner", places), ("reader", places[::2])):
            for start in range(0, len(chosen), 100):
                self.ask("POST", "me/responses/bulk", {"items": [
                    {"record_id": self.server_ids[place], "status": ("submitted", "draft", "discarded")[place // 10 % 3],
                     "values": {"kind": {"value": LABELS[place % 20]}, "quality": {"value": 1 + place % 5}}}
                    for place in chosen[start:start + 100]]}, user)

    def search(self, *, user: str = "owner", offset: int = 0, **body: Any) -> dict[str, Any]:
        path = f"{'me/' if user == 'reader' else ''}datasets/{self.id}/records/search"
        return self.ask("POST", path, body, user, offset=offset, limit=10, include=["suggestions", "responses"])

    def everything(self, count: int) -> None:
        """Ask for all, and see that all are there."""
        total = self.search()["total"]
        if total != count:
            raise SystemExit(f"{total} records are found, and there are {count}")

    def operations(self, count: int) -> dict[str, Callable[[], Any]]:
        """What is timed; every call draws its words and values anew."""
        pick, words = self.draw.choice, self.words

        def text(query: str) -> dict[str, Any]:
            return {"query": {"text": {"q": query}}}

        def terms(scope: dict[str, Any], *values: str) -> dict[str, Any]:
            return {"type": "terms", "scope": scope, "values": list(values)}

        def between(scope: dict[str, Any], low: float, high: float) -> dict[str, Any]:
            return {"type": "range", "scope": scope, "ge": low, "le": high}

        def about(question: str, what: str) -> dict[str, Any]:
            return {"entity": "suggestion", "question": question, "property": what}

        def metadata(name: str) -> dict[str, Any]:
            return {"entity": "metadata", "metadata_property": name}

        def near(**more: Any) -> dict[str, Any]:
            return {"query": {"vector": {"name": "meaning", "value": [self.draw.gauss(0, 1) for _ in range(DIMENSIONS)]}}, **more}

        def pending() -> dict[str, Any]:
            return terms({"entity": "response", "property": "status"}, "pending")

        search = self.search
        return {
            "match all": lambda: search(),
            "match all, deep page": lambda: search(offset=count // 2),
            "rare word": lambda: search(**text(words[self.draw.randrange(2000, 20_000)])),
            "frequent word": lambda: search(**text(pick(words[:3]))),
            "two frequent words": lambda: search(**text(f"{words[0]} {pick(words[1:4])}")),
            "either of two frequent words": lambda: search(**text(f"{words[1]} | {pick(words[2:5])}")),
            "all but a frequent word": lambda: search(**text(f"-{pick(words[:3])}")),
            "phrase": lambda: search(**text(f'"{words[0]} {pick(words[:3])}"')),
            "beginning of words": lambda: search(**text(f"{pick(words[:50])[:2]}*")),
            "Chinese word": lambda: search(**text(pick(CHINESE))),
            "two Chinese words": lambda: search(**text(f"{pick(CHINESE)} {pick(CHINESE)}")),
            "terms of metadata": lambda: search(filters={"and": [terms(metadata("topic"), pick(TOPICS), pick(TOPICS))]}),
            "range of metadata": lambda: search(filters={"and": [between(metadata("weight"), 0, 1 + self.draw.random())]}),
            "value of a suggestion": lambda: search(filters={"and": [terms(about("kind", "value"), pick(LABELS))]}),
            "value among many": lambda: search(filters={"and": [terms(about("tags", "value"), pick(TAGS))]}),
            "score of a suggestion": lambda: search(filters={"and": [between(about("kind", "score"), 0.2, 0.7 + self.draw.random() / 4)]}),
            "agent of a suggestion": lambda: search(filters={"and": [terms(about("kind", "agent"), "benchmark")]}),
            "status of a response": lambda: search(filters={"and": [terms({"entity": "response", "property": "status"}, "submitted")]}),
            "value of a response": lambda: search(filters={"and": [terms({"entity": "response", "question": "kind"}, pick(LABELS))]}),
            "status of a record": lambda: search(filters={"and": [terms({"entity": "record", "property": "status"}, "pending")]}),
            "the reader's page": lambda: search(user="reader", filters={"and": [pending()]}),
            "the reader's page, a frequent word": lambda: search(user="reader", filters={"and": [pending()]}, **text(pick(words[:3]))),
            "word and two filters": lambda: search(filters={"and": [terms(about("kind", "value"), *LABELS[:10]),
                                                                    between(metadata("weight"), -1, 1)]}, **text(pick(words[:3]))),
            "sort by metadata": lambda: search(sort=[{"scope": metadata("weight"), "order": "desc"}]),
            "sort by score": lambda: search(sort=[{"scope": about("kind", "score"), "order": "asc"}]),
            "sort by time": lambda: search(sort=[{"scope": {"entity": "record", "property": "updated_at"}, "order": "desc"}]),
            "frequent word, sort by score": lambda: search(sort=[{"scope": about("kind", "score"), "order": "asc"}],
                                                           **text(pick(words[:3]))),
            "similar": lambda: search(**near()),
            "least similar": lambda: search(query={"vector": {**near()["query"]["vector"], "order": "least_similar"}}),
            "similar to a record": lambda: search(query={"vector": {"name": "meaning", "record_id": pick(self.server_ids)}}),
            "similar, filter": lambda: search(**near(filters={"and": [terms(about("kind", "value"), pick(LABELS))]})),
            "similar, frequent word": lambda: search(query={**near()["query"], **text(pick(words[:3]))["query"]}),
            "progress": lambda: self.ask("GET", f"datasets/{self.id}/progress"),
            "progress of the reader": lambda: self.ask("GET", f"me/datasets/{self.id}/metrics", user="reader"),
            "counts of terms": lambda: self.ask("GET", f"metadata-properties/{self.metadata_ids['topic']}/metrics"),
            "ends of a range": lambda: self.ask("GET", f"metadata-properties/{self.metadata_ids['weight']}/metrics"),
        }

    def run(self, repeats: int, count: int) -> dict[str, dict[str, float]]:
        """Milliseconds by operation. The operations take turns, after one round that does not count."""
        operations = self.operations(count)
        for call in operations.values():
            call()
        times: dict[str, list[float]] = {name: [] for name in (*operations, "frequent word, after a change")}
        for _ in range(repeats):
            for name, call in operations.items():
                times[name].append(milliseconds(call))
            self.ask("PATCH", f"records/{self.draw.choice(self.server_ids)}", {"fields": {"text": f"{self.words[0]} changed"}})
            times["frequent word, after a change"].append(milliseconds(operations["frequent word"]))
        found = {name: {"p50_ms": round(statistics.median(each), 1), "p95_ms": round(percentile(each, 0.95), 1)}
                 for name, each in times.items()}
        for name, each in found.items():
            print(f"  {name:36s} p50 {each['p50_ms']:7.1f} ms   p95 {each['p95_ms']:7.1f} ms", flush=True)
        return found


def milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all does not exceed, between neighbours in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def fill(path: Path, rows: Iterator[dict[str, Any]], side: Side) -> None:
    """Write records, suggestions and vectors as rows of the server's database, which nobody has open."""
    dataset = uuid.UUID(side.id).hex
    connection = sqlite3.connect(path)
    now = datetime.now(UTC).replace(tzinfo=None)
    with connection:
        for number, row in enumerate(rows):
            identity, at = uuid.uuid4().hex, (now + timedelta(milliseconds=number)).strftime("%Y-%m-%d %H:%M:%S.%f")
            connection.execute("INSERT INTO records (id, fields, external_id, dataset_id, inserted_at, updated_at, metadata, status) "
                               "VALUES (?, ?, ?, ?, ?, ?, ?, 'pending')",
                               (identity, json.dumps(row["fields"]), row["external_id"], dataset, at, at, json.dumps(row["metadata"])))
            connection.executemany(
                "INSERT INTO suggestions (id, value, score, agent, record_id, question_id, inserted_at, updated_at) "
                "VALUES (?, ?, ?, 'benchmark', ?, ?, ?, ?)",
                [(uuid.uuid4().hex, json.dumps(ranked(name, value)), json.dumps(score), identity, side.question_ids[name], at, at)
                 for name, (value, score) in row["suggestions"].items()])
            connection.execute("INSERT INTO vectors (id, value, record_id, vector_settings_id, inserted_at, updated_at) "
                               "VALUES (?, ?, ?, ?, ?, ?)", (uuid.uuid4().hex, json.dumps(row["vector"]), identity, side.vector_id, at, at))
    connection.close()


def ranked(question: str, value: Any) -> Any:
    """A ranking as the server keeps it."""
    return [{"value": each, "rank": place} for place, each in enumerate(value, 1)] if question == "order" else value


def peak_bytes(pid: int) -> int:
    """The most memory that the process has held at once (Linux)."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
