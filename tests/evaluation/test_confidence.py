"""How sure a model is of a value is the product of its tokens' probabilities."""

import math

import pytest

from labkit import models, records, scenarios
from labkit.evaluation import confidence, predict
from labkit.scenarios import answers
from tests.evaluation.test_predict import tiny

torch = pytest.importorskip("torch")


def test_the_probability_is_the_product_over_the_places_tokens():
    model, prompt, answer = tiny("Llama"), [3, 5, 7, 9], [11, 13, 17, 19, 23]
    with torch.inference_mode():
        found = confidence.of_places(model, prompt, answer, {"kind": [1, 2], "weight": [4], "none": []})
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].double()
    chances = torch.softmax(logits, dim=-1)
    expected = {"kind": chances[4, 13] * chances[5, 17], "weight": chances[7, 23]}
    assert found == {name: pytest.approx(float(value), rel=1e-4) for name, value in expected.items()}


def test_all_values_of_one_token_share_out_one():
    model, prompt = tiny("Qwen2"), [1, 2, 3]
    with torch.inference_mode():
        total = sum(confidence.of_places(model, prompt, [token], {"kind": [0]})["kind"] for token in range(96))
    assert math.isclose(total, 1, rel_tol=1e-4)


@pytest.mark.slow
def test_the_embedded_base_has_scores_for_labels_and_numbers_and_none_for_texts():
    scenario, base = scenarios.load("finance"), models.resolve()
    few = records.samples(scenario).select([0, 1])
    rows = [predict.read_answer(scenario, record["id"], answers.render(scenario, record["answer"], record["language"])) for record in few]
    scored = confidence.add([*rows[:1], {**rows[1], "answer": {}}], few, scenario, base)
    assert set(scored[0]["scores"]) == {field.name for field in scenario.fields if field.kind != "text"}
    assert all(0 < value <= 1 for value in scored[0]["scores"].values()) and scored[1]["scores"] == {}
