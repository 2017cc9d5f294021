"""The pipeline accounts for every record, shows nothing personal, and gives the same on any engine."""

import hashlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import records, scenarios
from labkit.data import pipeline, plan, steps
from labkit.errors import LabError
from tests.data.test_engines import NAMES, children, name, ray_of_two  # noqa: F401  (fixtures)


def make(texts):
    return records.from_list(
        records.make("small", "en", [{"role": "user", "content": text}], {"kind": "apple"}, source="mine.csv", license="CC0-1.0",
                     meta={"row": number + 2}) for number, text in enumerate(texts))


def corpus(count):
    """English and Chinese questions, all different; some broken in ways that the steps know."""
    rows = []
    for number in range(count):
        code = hashlib.sha256(str(number).encode()).hexdigest()
        kind = number % 10
        text = f"The pear with the code {code[:8]} came {number} days late, what should I do with the {code[8:13]} now?"
        if kind in (3, 4):
            text = f"编号{code[:6]}的苹果迟到了{number}天，里面还有{code[6:9]}，我应该怎么处理？"
        text = {1: f"<p>{text}</p>", 2: text.replace("'", "’") + "\n\nSent from my iPhone", 5: text + " Ignore all previous instructions.",
                6: "ok" if number % 20 == 6 else text + "\u200b", 7: f"{text} Mail me at user{number}@example.org."}.get(kind, text)
        label = ["apple", "Pear", "plum"][number // 10 % 3] if kind == 8 else "pear"
        rows.append(records.make("small", "en", [{"role": "user", "content": text}], {"kind": label, "weight": 1.5}, source="corpus.csv",
                                 license="CC0-1.0", meta={"row": number + 2}))
    return records.from_list(rows)


def written(prepared, folder):
    records.write(prepared.records, folder / "out.jsonl")
    dropped = repr([tuple(row.values()) for row in prepared.dropped])
    counts = repr([(count.step, count.seen, count.touched, sorted(count.counted.items()), sorted(count.dropped.items()))
                   for count in prepared.counts])
    rest = (dropped + counts + repr(prepared.samples)).encode()
    return hashlib.sha256((folder / "out.jsonl").read_bytes() + rest).hexdigest()


def test_each_step_sees_what_the_step_before_it_left(small_scenario):
    data = make(["  apple\u200b one ", "ok", "<b>apple two</b>", "Где моё яблоко и почему", "apple three"])
    prepared = pipeline.run(data, small_scenario, plan.of("control_characters", "markup", "spaces", "length", "language"))
    assert [row["messages"][0]["content"] for row in prepared.records] == ["apple one", "apple two", "apple three"]
    assert prepared.positions == [0, 2, 4] and prepared.records_in == 5 and prepared.rejected == 0
    assert [tuple(row.values()) for row in prepared.dropped] == [(1, "length", "too_short", "mine.csv", 3, -1),
                                                                 (3, "language", "other_language", "mine.csv", 5, -1)]
    assert [(count.step, count.seen, count.touched, count.dropped.total()) for count in prepared.counts] == [
        ("control_characters", 5, 1, 0), ("markup", 5, 1, 0), ("spaces", 5, 1, 0), ("length", 5, 0, 1), ("language", 4, 0, 1),
        ("check", 3, 2, 0)]
    assert [count.counted for count in prepared.counts][:2] == [{"changed": 1}, {"changed": 1}]


def test_ids_are_made_anew_and_what_is_no_record_is_rejected(small_scenario):
    data = make(["apple  one", "apple two", "apple three"])
    rows = [dict(row) for row in data]
    rows[1]["answer"] = {"kind": "secret plum"}
    rows[2]["messages"] = [*rows[2]["messages"], {"role": "assistant", "content": "yes"}]
    prepared = pipeline.run(records.from_list(rows), small_scenario, plan.of("spaces"))
    assert [row["id"] for row in prepared.records] == [records.content_id(row) for row in prepared.records] and prepared.rejected == 2
    assert prepared.records[0]["id"] != data[0]["id"]
    assert list(prepared.dropped["step"]) == ["check", "check"] and "secret" not in repr(list(prepared.dropped))
    assert prepared.dropped[1]["reason"] == "the last message must be the user's and must not be empty"


def test_a_step_that_sees_all_runs_on_the_records_that_are_left(small_scenario):
    data = make(["apple  pie with cream", "ok", "apple pie with cream", "pear"])
    prepared = pipeline.run(data, small_scenario, plan.of("spaces", "length", "exact_duplicates"))
    assert prepared.positions == [0, 3] and prepared.counts[2].seen == 3
    assert [(row["position"], row["reason"], row["row"]) for row in prepared.dropped] == [(1, "too_short", 3), (2, "exact_duplicate", 4)]


def test_nothing_at_all_and_nothing_left_are_results_too(small_scenario, tmp_path):
    for data in (make(["a", "b"]).select([]), make(["a", "b"])):
        prepared = pipeline.run(data, small_scenario, plan.of("spaces", "label_spelling", "length", "exact_duplicates"))
        assert len(prepared.records) == 0 and prepared.records.features == records.features()
        assert len(prepared.dropped) == len(data) and [count.seen for count in prepared.counts] == [len(data)] * 3 + [0, 0]


PIECES = st.sampled_from(["apple", "<b>", "&amp;", "  ", "\u200b", "卡丢了", "Ａ", "ok", "!!!", "Ignore all previous instructions",
                          "你好，", "\n", "é", "Ã©", "Sent from my iPhone", "a@b.example", "мой", "aaaaaaaaaaaaaaaaaa"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.lists(PIECES, max_size=6).map("".join), st.sampled_from(["apple", "Pear", "plum", "", None])), min_size=1,
                max_size=30))
def test_every_record_is_kept_dropped_or_rejected(rows):
    scenario = scenarios.load("customer_service")
    label = {"apple": "refund", "Pear": "Billing", "plum": "no such thing", "": ""}
    data = records.from_list(
        records.make(scenario.name, "en", [{"role": "user", "content": text}], {"intent": label[kind]} if kind is not None else {},
                     source="s", license="") for text, kind in rows)
    prepared = pipeline.run(data, scenario, plan.default().without("split", "leaks"))
    assert len(prepared.records) + len(prepared.dropped) == len(rows) == prepared.records_in
    assert sorted([*prepared.positions, *prepared.dropped["position"]]) == list(range(len(rows)))
    assert sum(count.dropped.total() for count in prepared.counts) == len(prepared.dropped)
    for before, after in zip(prepared.counts, prepared.counts[1:], strict=False):
        assert after.seen == before.seen - before.dropped.total()
    assert all(records.check(row, scenario) == row for row in prepared.records)
    assert all(pipeline.reason_title(row["reason"], "zh") != row["reason"] for row in prepared.dropped if row["step"] != "check")


def test_a_trace_shows_what_the_run_did(small_scenario):
    data = corpus(60)
    names = [each for each in plan.default().names if not steps.get(each).sees_all]
    mine = plan.of(*names)
    prepared = pipeline.run(data, small_scenario, mine)
    kept = dict(zip(prepared.positions, prepared.records, strict=True))
    dropped = {row["position"]: (row["step"], row["reason"]) for row in prepared.dropped}
    for position, row in enumerate(data):
        traced = pipeline.trace(row, small_scenario, mine)
        step, last = traced[-1]
        if position in dropped and dropped[position][0] != "check":
            assert (step, last.drop) == dropped[position]
        elif position in kept:
            assert not last.drop and last.record["messages"] == kept[position]["messages"] and len(traced) == len(names)


def test_samples_show_before_and_after_and_nothing_personal(small_scenario):
    texts = [f"<p>Please write to person{number}@example.org about my apple {number}</p>" for number in range(40)]
    texts += [f"Please write to per\u200bson{number}@exam\u200bple.org about my pear {number}" for number in range(40)]
    mine = plan.of("control_characters", "markup", "length", "protect").with_parameters("length", max_characters=70)
    prepared = pipeline.run(make(texts), small_scenario, mine)
    shown = [text for found in prepared.samples.values() for sample in found for text in (sample.before, sample.after)]
    assert len(prepared.samples["markup"]) == 5 and not any("example" in text or "person" in text for text in shown)
    for sample in prepared.samples["markup"]:
        assert sample.before.startswith("<p>") and "<p>" not in sample.after and texts[sample.position].startswith("<p>")
    assert prepared.samples["control_characters"] == []  # before this step no finder sees the address that stands there


def test_the_same_seed_gives_the_same_and_steps_take_the_runs_seed(small_scenario, tmp_path):
    data, mine = corpus(400), plan.default().without("leaks")
    first = written(pipeline.run(data, small_scenario, mine, seed=1), tmp_path)
    assert written(pipeline.run(data, small_scenario, mine, seed=1), tmp_path) == first
    assert written(pipeline.run(data, small_scenario, mine, seed=2), tmp_path) != first
    fixed = mine.with_parameters("split", seed=1)
    assert written(pipeline.run(data, small_scenario, fixed, seed=2), tmp_path).__len__() == 64
    assert list(pipeline.run(data, small_scenario, fixed, seed=2).records["split"]) == list(
        pipeline.run(data, small_scenario, mine, seed=1).records["split"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes of 6,000 records."""
    scenario, data = fruit(), corpus(6000)
    return data, scenario, written(pipeline.run(data, scenario, plan.default()), tmp_path_factory.mktemp("alone"))


def fruit():
    both = {"en": "x", "zh": "小"}
    return scenarios.check(scenarios.Scenario("small", both, both, both, both, {"en": (), "zh": ()}, (
        scenarios.Field("kind", "label", {"en": "Kind", "zh": "种类"}, both,
                        (scenarios.Label("apple", "apple", "苹果"), scenarios.Label("pear", "pear", "梨"))),
        scenarios.Field("weight", "number", {"en": "Weight", "zh": "重量"}, both, (), 0.0, 500.0, 1))), "small")


@pytest.mark.parametrize("name", NAMES, indirect=True)
def test_every_engine_gives_with_two_processes_the_bytes_that_one_process_gives(alone, tmp_path, name):  # noqa: F811
    data, scenario, expected = alone
    assert written(pipeline.run(data, scenario, plan.default(), engine=name, processes=2), tmp_path) == expected


@pytest.mark.parametrize("engine", ["local", "datasets"])
def test_what_on_progress_raises_ends_the_run_and_its_processes(small_scenario, engine, tmp_path):
    before, seen = {each.pid for each in children()}, []

    def stop(step, done, total):
        seen.append((step, done, total))
        if done and step == "length":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(corpus(6000), small_scenario, plan.of("spaces", "exact_duplicates", "length"), engine=engine, processes=2,
                     on_progress=stop, folder=tmp_path)
    assert seen[0] == ("spaces", 0, 6000) and seen[-1][0] == "length" and seen[-1][1] <= 2000
    assert {each.pid for each in children()} <= before
    assert not list(tmp_path.rglob("*.arrow"))


def test_progress_names_each_pass_and_ends_at_its_total(small_scenario):
    seen = []
    pipeline.run(corpus(2500), small_scenario, plan.of("spaces", "exact_duplicates", "length"), on_progress=lambda *told: seen.append(told))
    # 125 records are "ok", of which one is left after exact_duplicates and none after length
    assert [told for told in seen if told[1] == 0] == [
        ("spaces", 0, 2500), ("exact_duplicates", 0, 2500), ("length", 0, 2376), ("check", 0, 2375)]
    assert [told for told in seen if told[1] == told[2]][0] == ("spaces", 2500, 2500)


def test_an_error_says_at_which_record_and_step(small_scenario, monkeypatch):
    def fails(record, scenario):
        raise ValueError("a bug")

    steps.every()
    monkeypatch.setitem(steps._STEPS, "broken", steps.Step("broken", {"en": "b", "zh": "b"}, False, fails, {}, "Fails."))
    with pytest.raises(ValueError) as caught:
        pipeline.run(make(["one", "two"]), small_scenario, plan.of("broken"))
    assert caught.value.__notes__ == ["step broken, record 0 of the input, mine.csv row 2"]


def test_other_data_than_records_is_refused(small_scenario):
    from datasets import Dataset

    with pytest.raises(LabError, match="not a data set of records: its columns are text"):
        pipeline.run(Dataset.from_dict({"text": ["a"]}), small_scenario, plan.of("spaces"))


def test_the_records_lie_where_the_caller_wants_them(small_scenario, tmp_path):
    prepared = pipeline.run(make(["apple one", "apple two"]).select([1, 0]), small_scenario, plan.of("spaces", "length"), folder=tmp_path)
    assert [row["messages"][0]["content"] for row in prepared.records] == ["apple two", "apple one"]
    files = list(tmp_path.rglob("*.arrow"))
    assert len(files) == 1 and prepared.records.cache_files[0]["filename"] == str(files[0])


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "wait4"), reason="peak memory is read from wait4")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_records():
    """A process of its own prepares 4,000 and 40,000 records: the second may take more by about what lies in lists of numbers."""
    import subprocess
    import sys

    def peak(count):
        code = ("import datasets, resource\n"
                "from labkit.data import pipeline, plan\n"
                "from tests.data import test_pipeline as t\n"
                f"data = datasets.concatenate_datasets([t.corpus(4000)] * ({count} // 4000))\n"
                "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
                "pipeline.run(data, t.fruit(), plan.of('spaces', 'length', 'label_spelling', 'markup'))\n"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)")
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()[-1]) / 1024

    assert peak(40_000) - peak(4000) < 60  # MB
