"""The sample data: repeatable, split by situation, worth learning, and finance by its rule."""

import json
import re
import subprocess
import sys

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from labkit import places, records, scenarios

NAMES = [name for name in scenarios.names() if (places.samples_folder() / f"{name}.jsonl").exists()]
sys.path.insert(0, str(places.samples_folder()))


@pytest.fixture(scope="module", params=NAMES)
def sample(request):
    """(scenario, its records as a list)."""
    scenario = scenarios.load(request.param)
    return scenario, records.samples(scenario).to_list()


def text_of(row):
    return row["messages"][-1]["content"]


def shingles(row):
    """Runs of five words, of five characters for Chinese."""
    text = text_of(row)
    parts = re.findall(r"\w+", text.lower()) if row["language"] == "en" else [character for character in text if character.isalnum()]
    return {tuple(parts[at : at + 5]) for at in range(max(1, len(parts) - 4))}


@pytest.mark.parametrize("name", NAMES)
def test_making_the_data_again_gives_the_same_bytes(name, tmp_path):
    subprocess.run([sys.executable, str(places.samples_folder() / "make.py"), "--scenario", name, "--out", str(tmp_path)], check=True)
    assert (tmp_path / f"{name}.jsonl").read_bytes() == (places.samples_folder() / f"{name}.jsonl").read_bytes()


def test_there_are_enough_records_and_cores(sample):
    _, rows = sample
    for language, least in {"en": 400, "zh": 120}.items():
        own = [row for row in rows if row["language"] == language]
        assert len(own) >= least and len({row["meta"]["core"] for row in own}) >= 60
        assert len({row["id"] for row in own}) == len(own)


def test_a_core_is_on_one_side_only(sample):
    _, rows = sample
    sides = {}
    for row in rows:
        sides.setdefault(row["meta"]["core"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())


def test_no_test_record_has_a_near_duplicate_in_train(sample):
    _, rows = sample
    for language in scenarios.LANGUAGES:
        train = [shingles(row) for row in rows if row["language"] == language and row["split"] == "train"]
        for row in rows:
            if row["language"] == language and row["split"] == "test":
                own = shingles(row)
                assert all(len(own & other) < 0.5 * len(own | other) for other in train), text_of(row)


def test_a_label_can_be_learned_but_not_read_off(sample):
    scenario, rows = sample
    for field in scenario.label_fields:
        right = count = 0
        for language in scenarios.LANGUAGES:
            train, test = ([row for row in rows if row["language"] == language and row["split"] == split] for split in ("train", "test"))
            vectors = TfidfVectorizer(ngram_range=(1, 2)) if language == "en" else TfidfVectorizer(analyzer="char", ngram_range=(1, 3))
            model = LogisticRegression(C=10, max_iter=2000)
            model.fit(vectors.fit_transform(map(text_of, train)), [row["answer"][field.name] for row in train])
            found = model.predict(vectors.transform(map(text_of, test)))
            right += sum(label == row["answer"][field.name] for label, row in zip(found, test, strict=True))
            count += len(test)
        assert 0.55 <= right / count <= 0.93, f"{scenario.name} {field.name}: {right / count:.3f}"


def test_finances_score_follows_from_the_profile_by_the_rule():
    import finance_rule as finance

    rows = [json.loads(line) for line in (places.samples_folder() / "finance.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        buckets = row["meta"]["profile"]
        kind = row["meta"]["kind"]
        points = row["answer"]["risk_score"]
        assert abs(points - finance.score(kind, buckets)) <= finance.NOISE or points in (0, 100)
        assert row["answer"]["grade"] == finance.grade(points) and row["answer"]["decision"] == finance.decision(kind, buckets, points)
