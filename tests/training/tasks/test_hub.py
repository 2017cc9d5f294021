"""Data sets of the hub, offline: what its client left in the local cache is read, with our columns."""

import json

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset

from labkit.training.tasks import formats

TEXT = Value("string")


@pytest.fixture()
def cached(tmp_path, monkeypatch):
    """Puts splits into a local cache as the hub's client would have left them."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def put(owner, name, configuration, features, **splits):
        for split, columns in splits.items():
            Dataset.from_dict(columns, features=features).to_parquet(tmp_path / f"{split}.parquet")
        files = {split: str(tmp_path / f"{split}.parquet") for split in splits}
        load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "made"))
        made = next((tmp_path / "made").rglob("dataset_info.json")).parent
        kept = tmp_path / "cache" / f"{owner}___{name}" / configuration / "0.0.0" / "0123"
        kept.parent.mkdir(parents=True)
        made.rename(kept)
        for path in kept.glob("parquet-*"):
            path.rename(kept / path.name.replace("parquet-", f"{name}-"))
        info = json.loads((kept / "dataset_info.json").read_text())
        (kept / "dataset_info.json").write_text(json.dumps({**info, "config_name": configuration, "dataset_name": name}))

    return put


def test_glue_comes_from_the_cache_and_its_test_split_without_labels(cached):
    features = Features({"sentence": TEXT, "label": ClassLabel(names=["negative", "positive"]), "idx": Value("int32")})
    cached("nyu-mll", "glue", "sst2", features, train={"sentence": ["good", "bad"], "label": [1, 0], "idx": [0, 1]},
           test={"sentence": ["so"], "label": [-1], "idx": [0]})
    data = formats.load("glue/sst2")
    assert list(data.train) == [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]
    assert list(data.splits["test"]) == [{"text": "so"}]


def test_squad_comes_from_the_cache(cached):
    features = Features({"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT,
                         "answers": {"text": List(TEXT), "answer_start": List(Value("int32"))}})
    row = {"id": "q", "title": "T", "context": "old town", "question": "Which?", "answers": {"text": ["old"], "answer_start": [0]}}
    cached("rajpurkar", "squad_v2", "squad_v2", features, train={key: [value] for key, value in row.items()})
    assert list(formats.load("squad_v2").train) == [row]


def test_conll_comes_from_the_cache(cached):
    tags = ClassLabel(names=["O", "B-PER", "I-PER"])
    features = Features({"id": TEXT, "tokens": List(TEXT), "pos_tags": List(Value("int64")), "ner_tags": List(tags)})
    cached("eriktks", "conll2003", "conll2003", features,
           train={"id": ["0"], "tokens": [["Ada", "sat"]], "pos_tags": [[1, 2]], "ner_tags": [[1, 0]]})
    data = formats.load("conll2003")
    assert data.labels == ("O", "B-PER", "I-PER") and list(data.train) == [{"tokens": ["Ada", "sat"], "tags": [1, 0], "document": 0}]
