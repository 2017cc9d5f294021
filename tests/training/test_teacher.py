"""A student learns from its teacher by the paper's formula, the same however a batch is cut, and says so where it cannot."""

import dataclasses
import threading

import pytest
import torch

from labkit import models, places
from labkit.errors import LabError
from labkit.training import chat_data, teacher, trainer, views
from labkit.training.recipe import Recipe
from labkit.training.world import World
from tests.conftest import save_tiny


@pytest.fixture(scope="module")
def teacher_base(tmp_path_factory):
    """Another random model with the same tokens: 2 layers, 32 wide."""
    return save_tiny(tmp_path_factory.mktemp("teacher") / "llama", hidden_size=32, num_hidden_layers=2)


@pytest.fixture(scope="module")
def wider_base(tmp_path_factory):
    """A model with more tokens than its tokenizer; made here, where the cache still holds the tokenizer."""
    return save_tiny(tmp_path_factory.mktemp("wider") / "llama", vocab_size=49_160, num_hidden_layers=1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, tiny_base):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


def recipe_of(tiny_base, **changes):
    return Recipe(**{"scenario": "small", "base": tiny_base, "rank": 4, "layers": 2, "epochs": 1, "batch_size": 4, "precision": "fp32",
                     "checkpoint_steps": 1, "teacher_weight": 0.7, "teacher_temperature": 2.0, **changes})


def learner_of(recipe, records, scenario):
    torch.manual_seed(recipe.seed)
    base = models.resolve(recipe.base)
    learner = trainer.chat_learner(recipe, base, chat_data.read(recipe, records, scenario, base))
    learner.prepare("small/a")
    return learner


def by_formula(scores, other, answers, weight, temperature):
    """(1 - w) CE + w T^2 sum p log(p / q), written out."""
    ours, theirs = (torch.softmax(each / temperature, -1) for each in (scores, other))
    divergence = (theirs * (theirs.log() - ours.log())).sum(-1)
    plain = -torch.softmax(scores, -1)[torch.arange(len(answers)), answers].log()
    return (1 - weight) * plain + weight * temperature**2 * divergence, plain


@pytest.mark.parametrize(("weight", "temperature"), [(0.5, 1.0), (1.0, 3.0), (0.2, 0.7)])
@pytest.mark.parametrize("learns", [False, True])
def test_losses_and_gradients_are_those_of_the_formula_in_float64(weight, temperature, learns, monkeypatch):
    monkeypatch.setattr(teacher, "_TOKENS", 7)
    torch.manual_seed(0)
    head, other = torch.nn.Linear(6, 40, bias=False).requires_grad_(learns), torch.nn.Linear(5, 40, bias=False).requires_grad_(False)
    states, known, answers = torch.randn(17, 6, requires_grad=True), torch.randn(17, 5), torch.randint(0, 40, (17,))
    factors = torch.rand(17)
    found, told = teacher.distilled(head, states, answers, other, known, weight, temperature)
    exact = states.detach().double().requires_grad_()
    weights = head.weight.detach().double().requires_grad_(learns)
    wanted, plain = by_formula(exact @ weights.T, known.double() @ other.weight.double().T, answers, weight, temperature)
    (found @ factors).backward()
    (wanted @ factors.double()).backward()
    assert torch.allclose(found.double(), wanted, atol=1e-5) and torch.allclose(told.double(), plain, atol=1e-5)
    assert torch.allclose(states.grad.double(), exact.grad, atol=1e-5)
    assert not learns or torch.allclose(head.weight.grad.double(), weights.grad, atol=1e-5)
    assert not told.requires_grad


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_step_is_the_formula_over_whole_conversations(tiny_base, teacher_base, small_records, small_scenario, method):
    """The gradient of a batch against a reference that runs student and teacher record by record, each whole; in float64 where the
    student's own functions allow it."""
    from transformers import AutoModelForCausalLM

    recipe = recipe_of(tiny_base, teacher=teacher_base, method=method, token_drop=0.0, text_share=1.0)
    learner = learner_of(recipe, small_records, small_scenario)
    with torch.no_grad():  # LoRA begins at 0, where the gradient of A is 0
        for name, value in learner.masters.items():
            if "lora_B" in name:
                value.normal_(std=0.05)
    learner.push()
    rows = [0, 1, 2, 3]
    learner.step(rows, 0, World())
    found = {name: value.grad.clone() for name, value in learner.masters.items()}
    exact = torch.float64 if method == "full" else torch.float32
    student, other = learner.model.to(exact), AutoModelForCausalLM.from_pretrained(teacher_base, dtype=exact)
    student.zero_grad(set_to_none=True)
    losses, weight = 0.0, 0.0
    for row in rows:
        example = learner.data.train.examples[row]
        view = views.drawn(example, recipe, 0, row)
        answers = torch.tensor(example.tokens[example.answer_start :])
        given, place = torch.tensor([example.tokens]), slice(example.answer_start - 1, -1)
        scores, theirs = (model(input_ids=given).logits[0, place] for model in (student, other))
        values, _ = by_formula(scores, theirs.detach(), answers, 0.7, 2.0)
        losses, weight = losses + values @ torch.tensor(view.weights, dtype=exact), weight + view.weight
    (losses / weight).backward()
    wanted = {name: value.grad for name, value in student.named_parameters() if name in found}
    assert max(value.abs().max() for value in found.values()) > 1e-3
    for name, value in found.items():
        assert torch.allclose(value.to(exact), wanted[name], atol=1e-5), name


@pytest.mark.parametrize("method", ["lora", "full"])
def test_micro_batches_give_the_same_gradient(tiny_base, teacher_base, small_records, small_scenario, method):
    grads = []
    for micro in (8192, 1):
        learner = learner_of(recipe_of(tiny_base, teacher=teacher_base, method=method, micro_tokens=micro, token_drop=0.3), small_records,
                             small_scenario)
        loss = learner.step([0, 1, 2, 3, 4], 3, World()).loss
        grads.append((loss, {name: value.grad.clone() for name, value in learner.masters.items()}))
    assert grads[0][0] == pytest.approx(grads[1][0], abs=1e-5)
    assert all(torch.allclose(value, grads[1][1][name], atol=1e-6) for name, value in grads[0][1].items())


def test_a_student_that_is_its_own_teacher_has_nothing_to_learn(tiny_base, small_records, small_scenario):
    """LoRA begins at 0, so student and teacher say the same; tokens are not dropped, so they see the same."""
    recipe = recipe_of(tiny_base, teacher=tiny_base, teacher_weight=1.0, token_drop=0.0)
    learner = learner_of(recipe, small_records, small_scenario)
    learner.step([0, 1, 2, 3], 0, World())
    assert max(value.grad.abs().max().item() for value in learner.masters.values()) < 1e-6


def test_the_reported_loss_stays_plain_cross_entropy(tiny_base, teacher_base, small_records, small_scenario):
    taught, alone = (learner_of(recipe_of(tiny_base, teacher=name), small_records, small_scenario).step([0, 1, 2, 3], 0, World()).loss
                     for name in (teacher_base, ""))
    assert taught == pytest.approx(alone, abs=1e-5)


def test_a_student_comes_nearer_to_its_teacher(tiny_base, teacher_base, small_records, small_scenario):
    recipe = recipe_of(tiny_base, teacher=teacher_base, teacher_weight=1.0, teacher_temperature=1.0, method="full", token_drop=0.0,
                       text_share=1.0, label_weight=1.0)
    learner, rows = learner_of(recipe, small_records, small_scenario), [0, 1]

    def apart():
        seen = {row: views.drawn(learner.data.train.examples[row], recipe, 0, row) for row in rows}
        with torch.no_grad():
            states, answers = learner._predicting(learner.data.train, rows, seen)
            return teacher.losses(learner.teacher, learner.head, states, answers, learner.data.train, rows, seen)[0].mean().item()

    before = apart()
    optimiser = torch.optim.Adam(learner.masters.values(), lr=1e-2)
    for _ in range(8):
        learner.step(rows, 0, World())
        optimiser.step()
        learner.push()
    assert apart() < 0.8 * before


def test_a_run_teaches_with_what_it_learned(tiny_base, small_records, small_scenario):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = trainer.train(recipe_of(tiny_base, name="teacher", learning_rate=0.05), small_records, small_scenario)
    learner = learner_of(recipe_of(tiny_base, teacher=run.key), small_records, small_scenario)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), run.adapter_folder).eval()
    example = learner.data.train.examples[5]
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([example.tokens])).logits[0, example.answer_start - 1 : -1]
        assert torch.allclose(learner.teacher.head(learner.teacher.states[5]), wanted, atol=1e-5)


def test_a_taught_training_goes_on_to_the_same_weights(tiny_base, teacher_base, small_records, small_scenario):
    recipe = recipe_of(tiny_base, name="whole", teacher=teacher_base, epochs=2, dropout=0.1)
    whole = trainer.train(recipe, small_records, small_scenario)
    stop, recipe = threading.Event(), dataclasses.replace(recipe, name="parts")
    trainer.train(recipe, small_records, small_scenario, on_step=lambda row: stop.set() if row["step"] == 1 else None, stop=stop)
    run = trainer.train(recipe, small_records, small_scenario)
    assert run.weights_sha256() == whole.weights_sha256() and len(run.metrics()) == 4


def test_a_teacher_that_is_not_there_or_does_not_fit_is_refused(tiny_base, wider_base):
    from transformers import AutoTokenizer

    base, tokenizer = models.resolve(tiny_base), AutoTokenizer.from_pretrained(tiny_base)
    stopped = places.runs_folder() / "small" / "stopped"
    stopped.mkdir(parents=True)
    (stopped / "recipe.toml").write_text("")
    for name, said in (("small/nobody", "neither a run"), (wider_base, "same vocabulary"), ("small/stopped", "not finished"),
                       ("minilm-l6", "cannot write text")):
        with pytest.raises(LabError, match=said):
            teacher.load(recipe_of(tiny_base, teacher=name), base, tokenizer, torch.float32, "cpu")


@pytest.mark.parametrize(("changes", "said"), [({"task": "embed"}, "learn by cross_entropy"), ({"teacher_weight": 0.0}, "above 0"),
                                               ({"teacher_weight": 1.5}, "at most 1"), ({"teacher_temperature": 0.0}, "above 0")])
def test_settings_of_a_teacher_are_checked(changes, said):
    with pytest.raises(LabError, match=said):
        Recipe(**{"scenario": "small", "teacher": "small/default", **changes})
