"""Fixtures for all tests: folders of their own, and a tiny random model."""

import os

from labkit import models, process

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several: a thread for each, also in what the tests start
    os.environ["OMP_NUM_THREADS"] = "1"
process.prepare()
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402

from labkit import records, scenarios  # noqa: E402
from tests import browser as browsers  # noqa: E402

torch.set_num_threads(1)  # tiny models are slower on more


def pytest_collection_modifyitems(items):
    """The longest files first, so that no worker is left alone with one at the end."""
    first = ("tests/test_benchmarks.py", "tests/test_build.py", "tests/training/test_trainer.py", "tests/labeling/test_server.py")
    items.sort(key=lambda item: not item.nodeid.startswith(first))


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Every test has runs and a lab database of its own; the cache of base models is shared, that of frozen layers is not."""
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("LABKIT_DATABASE", raising=False)
    monkeypatch.delenv("LABKIT_ONLINE", raising=False)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A random Llama of 4 layers with the embedded model's tokenizer, as a folder."""
    return save_tiny(tmp_path_factory.mktemp("tiny") / "llama")


def save_tiny(folder, config_class=None, **settings):
    """Save a random model of 4 layers, 48 wide, float32; returns the folder as text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    tokenizer = AutoTokenizer.from_pretrained(models.resolve().folder)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
             "vocab_size": len(tokenizer), "eos_token_id": 2, "pad_token_id": 2, "bos_token_id": 1}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config((config_class or LlamaConfig)(**{**sizes, **settings}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture()
def small_scenario():
    """A scenario with one field of each kind."""
    both = lambda en, zh: {"en": en, "zh": zh}  # noqa: E731
    return scenarios.check(scenarios.Scenario(
        name="small", title=both("Small", "小"), description=both("d", "d"), instructions=both("Sort fruit.", "给水果分类。"),
        notice=both("n", "n"), examples={"en": ("an apple",), "zh": ("苹果",)},
        fields=(
            scenarios.Field("kind", "label", both("Kind", "种类"), both("?", "?"),
                            (scenarios.Label("apple", "apple", "苹果"), scenarios.Label("pear", "pear", "梨"))),
            scenarios.Field("weight", "number", both("Weight", "重量"), both("?", "?"), (), 0.0, 500.0, 1),
            scenarios.Field("note", "text", both("Note", "备注"), both("?", "?")),
        )), "small")


@pytest.fixture()
def small_records(small_scenario):
    """Twelve labelled records of the small scenario: eight train, two validation, two test; half of them Chinese."""
    rows = []
    for number in range(12):
        language = "zh" if number % 2 else "en"
        kind = "pear" if number % 3 else "apple"
        text = f"fruit number {number}, " + "round and red " * (number % 4)
        if language == "zh":
            text = f"第{number}个水果" + "又圆又红" * (number % 3)
        rows.append(records.make(small_scenario.name, language, [{"role": "user", "content": text}],
                                 {"kind": kind, "weight": 10.5 + number, "note": f"note {number}"}, source="test", license="CC0-1.0",
                                 split="train" if number < 8 else "validation" if number < 10 else "test"))
    return records.from_list(rows)


@pytest.fixture(scope="session")
def chromium():
    """Path of the browser; without one the test is skipped, loudly."""
    path = browsers.find()
    if path is None:
        pytest.skip("NO CHROMIUM: this browser test did not run; install Debian's `chromium`")
    return path


@pytest.fixture(scope="module")
def browser(chromium):
    """Closed after each file: while Playwright is open, no other test could run an event loop of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()
