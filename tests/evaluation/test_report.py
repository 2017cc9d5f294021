"""A run is evaluated whole: files, model card, cache, and the errors a user can cause."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labkit import files, records
from labkit.errors import LabError
from labkit.evaluation import metrics, predict, report
from labkit.runs import Run
from labkit.training import trainer
from labkit.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture()
def run(tiny_base, small_scenario, small_records, tmp_path, monkeypatch):
    """A finished run of a tiny random model: two steps on eight records, with a cache folder of its own."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    recipe = Recipe(scenario="small", name="tiny", base=tiny_base, rank=2, layers=2, max_steps=2, precision="fp32")
    done = trainer.train(recipe, small_records, small_scenario)
    records.write(small_records, done.folder / "records.jsonl")
    return done


def test_an_evaluation_is_written_whole_with_hashes_counts_and_all_sides(run, small_records):
    found = report.evaluate(run)
    assert found == run.evaluation()
    assert found["adapter"] == run.manifest()["adapter"]["sha256"] == found["weights"]["adapter"]["sha256"]
    assert found["weights"]["base"]["sha256"] == run.manifest()["base"]["sha256"]
    test = records.in_split(small_records, "test")
    assert found["records"] == {"split": "test", "count": 2, "fingerprint": records.fingerprint(test), "en": 1, "zh": 1}
    assert set(found["seconds"]) == {"base", "fine_tuned", "tfidf"}
    for side in ("base", "fine_tuned"):
        assert set(found[side]["overall"]["fields"]) == {"kind", "weight", "note"}
    assert set(found["tfidf"]["overall"]["fields"]) == {"kind"}
    assert set(found["difference"]["overall"]["fields"]["kind"]["accuracy"]) == {"value", "low", "high", "p"}
    rows = [json.loads(line) for line in (run.folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == test["id"]
    assert rows[0]["reference"] == test[0]["answer"]
    assert set(rows[0]["base"]) == {"text", "answer", "complete"}


def test_the_model_card_says_in_both_languages_what_was_measured_and_on_what(run, small_scenario):
    found = report.evaluate(run)
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    for wanted in ("## Results", "## 结果", found["adapter"], run.manifest()["data"]["fingerprint"], "macro-F1", "宏平均 F1",
                   small_scenario.title["zh"], "CC0-1.0", "| rank | 2 |"):
        assert wanted in card
    assert card.index("## Results") < card.index("## 结果")


def test_the_base_is_asked_once_for_the_same_records_and_again_when_told(run, monkeypatch):
    asked, predict_really = [], predict.predict

    def listen(records, scenario, base, run=None, *rest):
        asked.append("run" if run else "base")
        return predict_really(records, scenario, base, run, *rest)

    monkeypatch.setattr(predict, "predict", listen)
    first = report.evaluate(run)
    again = report.evaluate(run)
    assert asked == ["base", "run", "run"]
    assert again["base"] == first["base"]
    report.measure(run, cached=False)
    assert asked[-2:] == ["base", "run"]


def test_progress_names_the_side_and_counts_its_answers(run):
    seen = []
    report.evaluate(run, progress=lambda *step: seen.append(step))
    assert seen == [("base", 1, 2), ("base", 2, 2), ("fine-tuned", 1, 2), ("fine-tuned", 2, 2)]


def test_table_and_summary_show_evaluated_runs_and_say_which_are_not(run):
    assert "not evaluated yet: `labkit evaluate small/tiny`" in report.table([run])
    with pytest.raises(LabError, match="labkit evaluate small/tiny"):
        report.summary(run)
    report.evaluate(run)
    lines = report.table([run]).splitlines()
    assert len(lines) == 2 + 2 + 1 + 1 + 1  # head, label twice, number, text, answers that parse
    assert all(line.count("|") == 8 for line in lines)
    assert [line.split()[0] for line in report.summary(run).splitlines()] == ["kind", "weight", "note", "all"]


def scores(value):
    point = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {"overall": {"parsed": point, "fields": {"kind": {"kind": "label", "n": 7, "missing": 0.0, "accuracy": point,
                                                             "macro_f1": point}}}}


def test_main_measures_take_one_point_a_field_and_leave_out_a_side_that_is_not_there():
    found = report.main_measures({"base": scores(0.25), "fine_tuned": scores(0.75), "tfidf": None})
    assert list(found) == ["base", "fine_tuned"]
    assert found["fine_tuned"] == [{"field": "kind", "kind": "label", "measure": "accuracy", "n": 7, "value": 0.75, "low": 0.65,
                                    "high": 0.85}]


def test_a_damaged_run_is_not_evaluated(run):
    path = run.adapter_folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(LabError, match="damaged"):
        report.evaluate(run)


def test_records_the_run_was_not_trained_on_are_not_taken_by_default(run, small_records):
    records.write(small_records.select(range(5, 12)), run.folder / "records.jsonl")
    with pytest.raises(LabError, match="was not trained on"):
        report.evaluate(run)


def test_records_without_a_test_split_are_an_error(run, small_records):
    with pytest.raises(LabError, match="no test split"):
        report.evaluate(run, records.in_split(small_records, "train"))


def test_an_unfinished_run_is_an_error(tmp_path):
    folder = tmp_path / "runs" / "small" / "unfinished"
    folder.mkdir(parents=True)
    with pytest.raises(LabError, match="not finished"):
        report.evaluate(Run(folder))


def test_a_merged_adapter_answers_as_the_unmerged_one(run, small_scenario, small_records):
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from labkit import models

    path = run.adapter_folder / "adapter_model.safetensors"
    torch.manual_seed(1)  # two steps hardly move the model: take an adapter that does
    save_file({name: torch.randn_like(value) for name, value in load_file(path).items()}, path)
    base = models.resolve(run.manifest()["base"]["name"])
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    prompts = [records.prompt(record, small_scenario) for record in small_records]
    plain = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    unmerged = PeftModel.from_pretrained(plain, run.adapter_folder).eval()
    expected, unadapted = [], []
    for messages in prompts:
        tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        new = unmerged.generate(**tokens, max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=2)
        expected.append(tokenizer.decode(new[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True).strip())
        with unmerged.disable_adapter():
            new = unmerged.generate(**tokens, max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=2)
        unadapted.append(tokenizer.decode(new[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    assert predict.answer_many(base, run.adapter_folder, prompts, 12, precision="fp32") == expected
    assert predict.answer_many(base, None, prompts, 12, precision="fp32") == unadapted
    assert expected != unadapted


def test_limits_are_a_quarter_more_than_the_longest_reference_and_eight(run, small_scenario, small_records):
    from transformers import AutoTokenizer

    from labkit import models

    base = models.resolve(run.manifest()["base"]["name"])
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    english = [record for record in small_records if record["language"] == "en"]
    longest = max(len(tokenizer(records.target(record, small_scenario))["input_ids"]) for record in english)
    assert predict.token_limits(small_records, small_scenario, base)["en"] == int(longest * 1.25) + 8
    bare = records.from_list([{**english[0], "answer": {}}])
    assert predict.token_limits(bare, small_scenario, base) == {"en": 256}


def test_the_benchmark_judges_a_field_by_all_its_measures():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import scenarios as benchmark
    finally:
        sys.path.pop(0)
    base, tuned = scores(0.5), scores(0.75)
    found = benchmark.judge({"base": base, "fine_tuned": tuned, "tfidf": scores(0.75)})
    assert found[0]["beats_base"] and not found[0]["beats_tfidf"]
    tuned["overall"]["fields"]["kind"]["macro_f1"] = {"value": 0.5, "low": 0, "high": 1}  # no better than the base
    assert not benchmark.judge({"base": base, "fine_tuned": tuned, "tfidf": None})[0]["beats_base"]
    assert metrics.is_better("mean_absolute_error", 3, 4) and not metrics.is_better("accuracy", 0.5, 0.5)


def test_the_benchmark_without_runs_claims_nothing_and_exits_well(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "scenarios.py", "--quick"], capture_output=True, text=True,
                          env={"LABKIT_RUNS": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, timeout=120)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["claims"] == {"fields_beating_base": 0.0, "labels_beating_tfidf": 0.0}
    assert last["detail"]["problems"]


def test_a_broken_cache_file_is_named(run, tmp_path):
    report.evaluate(run)
    [kept] = (tmp_path / "cache" / "predictions").glob("*.json")
    files.write_text(kept, "{")
    with pytest.raises(LabError, match=kept.name):
        report.evaluate(run)
