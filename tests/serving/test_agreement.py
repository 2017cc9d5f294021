"""llama.cpp and transformers + PEFT on held-out prompts of a trained run: one model in two engines.

They multiply differently (4-bit weights with 8-bit activations here, bfloat16 there), so a close call may fall otherwise.
"""

import threading

import numpy as np
import pytest

from labkit import models, records
from labkit.scenarios import answers
from labkit.serving import Sampling, open_engine


@pytest.fixture(scope="module")
def held_out(trained_run):
    """100 records that training did not use, sorted by language so that the system prompt stays in the KV cache."""
    rows = [row for row in records.samples(trained_run.scenario) if row["split"] in ("test", "validation")][:100]
    assert len(rows) == 100
    return sorted(rows, key=lambda row: row["language"])


@pytest.fixture(scope="module")
def engines(trained_run):
    base = models.resolve(trained_run.manifest()["base"]["name"])
    found = [open_engine(base, trained_run, kind=kind, threads=1) for kind in ("llama.cpp", "transformers")]
    assert found[0].weights.adapter == found[1].weights.adapter and found[0].weights.base == found[1].weights.base
    yield found
    for engine in found:
        engine.close()


def labels(engine, scenario, record):
    """The label fields of an answer, which is dropped as soon as all of them are there and their lines ended."""
    wanted = {field.name for field in scenario.label_fields}
    text = ""
    for piece in engine.stream(records.prompt(record, scenario), Sampling(max_tokens=120)):
        text += piece
        if "\n" in piece and wanted <= set(answers.parse(scenario, text.rpartition("\n")[0])):
            break
    return {name: value for name, value in answers.parse(scenario, text).items() if name in wanted}


def next_tokens(engine, prompt, answer):
    """The likeliest token at each place of a given answer, evaluated token by token as when it is generated."""
    engine._forget(0)
    logits = engine._prompt(prompt, threading.Event())
    found = [int(np.argmax(logits))]
    for token in answer[:-1]:
        found.append(int(np.argmax(engine._evaluate([token]))))
    return found


@pytest.mark.slow
def test_the_label_fields_agree_on_97_of_100_held_out_prompts(trained_run, engines, held_out):
    scenario = trained_run.scenario
    pairs = [[labels(engine, scenario, record) for engine in engines] for record in held_out]
    assert sum(one != {} for one, _ in pairs) > 50  # a run that answers nothing would agree too
    assert sum(one == other for one, other in pairs) >= 97


@pytest.mark.slow
def test_teacher_forced_next_tokens_agree_on_95_of_100(trained_run, engines, held_out):
    chat = engines[0]._chat
    agreed = tokens = 0
    for record in held_out[::5]:
        prompt = chat.encode(records.prompt(record, trained_run.scenario))
        answer = chat._tokenizer(records.target(record, trained_run.scenario), add_special_tokens=False)["input_ids"]
        one, other = (next_tokens(engine, prompt, answer) for engine in engines)
        agreed += sum(a == b for a, b in zip(one, other, strict=True))
        tokens += len(answer)
    assert tokens > 200 and agreed / tokens >= 0.95
