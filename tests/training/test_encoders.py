"""An encoder learns every task by every objective, the same however a batch is cut; each method changes what it should and nothing else."""

import dataclasses
import threading

import pytest
import torch

from labkit import models, runs
from labkit.errors import LabError
from labkit.training import encoders, predictor, trainer
from labkit.training.control import Control
from labkit.training.tasks import losses, of_data, passes, texts
from labkit.training.tasks.task import Head
from labkit.training.world import World
from tests.training.tasks import tiny

KINDS = [kind for kind in tiny.TASKS if kind != "chat"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


def learner_of(base, kind, **changes):
    torch.manual_seed(0)
    return of_data.learner(tiny.recipe(base, kind, **changes), tiny.data(kind), models.resolve(base))[0]


def several_heads(base, **changes):
    """A label, another label that half of the rows lack, and a number, on one trunk."""
    recipe = tiny.recipe(base, "classify", **changes)
    rows = tiny.data("classify").train
    parity = lambda row: {"parity": str(row % 2)} if row < 4 else {}  # noqa: E731
    made = [texts.Text(str(row), said, None, {"kind": ("stone", "apple")[label], "size": float(len(said)), **parity(row)})
            for row, (said, label) in enumerate(zip(rows["text"][:], rows["label"][:], strict=True))]
    heads = (Head("kind", "label", ("stone", "apple")), Head("parity", "label", ("0", "1")), Head("size", "number"))
    torch.manual_seed(0)
    found = models.resolve(base)
    return encoders.Encoder(recipe, found, texts.prepare("several", texts.tokenizer_of(found), heads, made, made[:4], recipe.max_tokens))


def after_steps(learner, steps=3, rate=0.05):
    """The weights after plain gradient descent, and the losses: AdamW would make much of rounding where a gradient is near 0."""
    found = []
    for index, (_, rows) in enumerate((learner.plan() * steps)[:steps]):
        found.append(learner.step(rows, index, World()).loss)
        with torch.no_grad():
            for value in learner.masters.values():
                if value.grad is not None:
                    value -= rate * value.grad
        learner.push()
    return {name: value.detach().clone() for name, value in learner.masters.items()}, found


def with_parts(learner, sizes):
    """`after_steps` from the same beginning with so many tokens at once, for each size."""
    begun = {name: value.detach().clone() for name, value in learner.masters.items()}
    for size in sizes:
        learner.micro_tokens = size
        with torch.no_grad():
            for name, value in learner.masters.items():
                value.copy_(begun[name])
        learner.push()
        yield after_steps(learner)


def far(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


CASES = [
    *[(kind, {}) for kind in KINDS],
    ("classify", {"label_smoothing": 0.1, "focal_gamma": 2.0}), ("classify", {"class_weights": "balanced"}),
    ("classify", {"objective": "supervised_contrastive"}), ("classify", {"objective": "triplet", "contrastive_weight": 0.5}),
    ("classify", {"objective": "cosine_pairs", "contrastive_weight": 1.0}), ("classify", {"neftune": 5.0}), ("tag", {"neftune": 5.0}),
    ("classify", {"token_drop": 0.4}), ("embed", {"objective": "triplet"}), ("embed", {"token_drop": 0.3, "neftune": 2.0}),
    ("classify", {"task": "embed", "objective": "supervised_contrastive"}), ("similarity", {"task": "embed", "objective": "cosine_pairs"}),
    ("multi_label", {"pooling": "first", "method": "lora"}), ("span", {"method": "dora"}), ("tag", {"method": "ia3"}),
]


@pytest.mark.parametrize(("kind", "changes"), CASES, ids=str)
def test_a_batch_in_parts_gives_the_same_weights(base, kind, changes):
    """1 x 8, about 2 x 4 and 8 x 1 texts at once."""
    (whole, loss), *parts = with_parts(learner_of(base, kind, **changes), (10_000, 60, 1))
    for weights, losses_of_parts in parts:
        assert far(whole, weights) < 1e-5
        assert losses_of_parts == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("changes", [{}, {"task_weighting": "uncertainty"}, {"task_weighting": "gradient_norm"},
                                     {"objective": "supervised_contrastive", "contrastive_weight": 0.3},
                                     {"task_sampling": "uniform", "epochs": 3}], ids=str)
def test_several_heads_learn_the_same_however_the_batch_is_cut(base, changes):
    (whole, _), *parts = with_parts(several_heads(base, **changes), (10_000, 40, 1))
    for weights, _ in parts:
        assert far(whole, weights) < 1e-5


def test_gradient_norm_moves_the_heads_weights_and_keeps_their_sum(base):
    learner = several_heads(base, task_weighting="gradient_norm")
    after_steps(learner, steps=3)
    balance = learner.model.task_balance.detach()
    assert balance.sum().item() == pytest.approx(3, abs=1e-4) and (balance - 1).abs().max() > 1e-3
    assert (learner.model.first_losses > 0).all()


def test_gradient_norm_looks_at_the_last_layer_that_learns_and_not_at_the_unused_pooler(base):
    learner = several_heads(base, task_weighting="gradient_norm")
    last = set(learner.model.trunk.encoder.layer[-1].parameters())
    assert set(losses.shared_parameters(learner.model)) == last
    with pytest.raises(LabError, match="needs a trunk that learns"):
        several_heads(base, task_weighting="gradient_norm", method="head")


def test_task_sampling_teaches_one_head_a_step_by_its_share(base):
    learner = several_heads(base, task_sampling="proportional", batch_size=2, epochs=40)
    plan, count = learner.plan(), len(learner.data.train)
    assert len(plan) == 40 * -(-count // 2) and [epoch for epoch, _ in plan] == sorted(epoch for epoch, _ in plan)
    taught = [{name for row in rows for name in learner._seen(row, index).targets} for index, (_, rows) in enumerate(plan)]
    assert all(len(names) == 1 for names in taught)
    share = sum(names == {"parity"} for names in taught) / len(plan)
    assert share == pytest.approx(4 / (2 * count + 4), abs=0.1)  # four rows have it
    assert all(row < 4 for names, (_, rows) in zip(taught, plan, strict=True) if names == {"parity"} for row in rows)
    before = {name: value.clone() for name, value in learner.masters.items()}
    index = next(index for index, names in enumerate(taught) if names == {"size"})
    learner.step(plan[index][1], index, World())
    moved = {name for name, value in learner.masters.items() if value.grad is not None and value.grad.abs().max() > 0}
    assert "heads.size.weight" in moved and not moved & {"heads.kind.weight", "heads.parity.weight"} and set(before) >= moved


@pytest.mark.parametrize(("kind", "changes"), [("tag", {"class_weights": "balanced"}), ("span", {"label_smoothing": 0.1}),
                                               ("regress", {"focal_gamma": 1.0})])
def test_a_loss_that_the_heads_do_not_have_is_refused(base, kind, changes):
    with pytest.raises(LabError, match="leave"):
        learner_of(base, kind, **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_what_comes_out(base, kind):
    learner = learner_of(base, kind)
    alone, together = (passes.run(learner.model, learner.data.held_out, pass_tokens=tokens) for tokens in (1, 10_000))
    for name in alone:
        for one, other in zip(alone[name], together[name], strict=True):
            assert torch.allclose(torch.from_numpy(one), torch.from_numpy(other), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls(base, kind):
    _, found = after_steps(learner_of(base, kind), steps=20, rate=0.02)
    assert found[-1] < 0.98 * found[0]


@pytest.mark.parametrize("kind", ["classify", "tag", "span"])
def test_the_validation_loss_is_that_of_pytorch(base, kind):
    """By torch's own cross-entropy over everything that has a target, all examples in one go."""
    learner = learner_of(base, kind)
    outputs = passes.run(learner.model, learner.data.held_out)
    (head,) = learner.data.heads
    total = count = 0
    for example, scores in zip(learner.data.held_out, outputs[head.name], strict=True):
        given, target = torch.from_numpy(scores), torch.tensor(example.targets[head.name])
        given = given.T if kind == "span" else given if kind == "tag" else given[None]  # a span's classes are its tokens
        total += torch.nn.functional.cross_entropy(given, target.reshape(-1), reduction="sum").item()
        count += int((target != -100).sum())
    assert learner.measure()["validation_loss"] == pytest.approx(total / count, abs=1e-5)


def test_a_stopped_training_goes_on_to_the_same_weights(base):
    changes = {"dropout": 0.1, "token_drop": 0.2, "neftune": 3.0, "batch_size": 3, "epochs": 2, "checkpoint_steps": 50}
    whole = trainer.train_task(tiny.recipe(base, "classify", name="whole", **changes), tiny.data("classify"))
    recipe, stop = tiny.recipe(base, "classify", name="parts", **changes), threading.Event()
    run = trainer.train_task(recipe, tiny.data("classify"), on_step=lambda row: stop.set() if row["step"] == 2 else None,
                             control=Control(stop=stop))
    assert run.state() == "stopped"
    run = trainer.train_task(recipe, tiny.data("classify"))
    assert run.manifest()["model"] == whole.manifest()["model"]
    assert [row["loss"] for row in run.metrics()] == [row["loss"] for row in whole.metrics()]


TOUCHED = {"full": ("embeddings.", "encoder."), "freeze": ("encoder.layer.1.",), "head": (), "lora": ("lora_",), "dora": ("lora_",),
           "ia3": ("ia3_",)}


@pytest.mark.parametrize("method", TOUCHED)
def test_a_method_changes_what_it_should_and_its_run_says_again_what_was_measured(base, method):
    layers = 1 if method == "freeze" else 0
    recipe = tiny.recipe(base, "classify", method=method, layers=layers, epochs=1, learning_rate=0.01)
    begun = learner_of(base, "classify", method=method, layers=layers).model
    before = {name: value.clone() for name, value in begun.named_parameters()}
    run = trainer.train_task(recipe, tiny.data("classify"))
    assert run.state() == "done" and runs.verify(run) == []
    ready = predictor.load(run)
    same = lambda name: name.replace(".default", "")  # noqa: E731
    after = {same(name): value for name, value in ready.model.named_parameters()}
    changed = {name for name, value in before.items() if not torch.equal(value, after[same(name)])}
    assert any(name.startswith("heads.") for name in changed)
    trunk = {name for name in changed if name.startswith("trunk.")}
    assert bool(trunk) == bool(TOUCHED[method]) and all(any(part in name for part in TOUCHED[method]) for name in trunk)
    validation = tiny.data("classify").splits["validation"]
    said = ready.predict(validation["text"][:])
    right = [each["label"]["value"] == ("stone", "apple")[label] for each, label in zip(said, validation["label"][:], strict=True)]
    assert sum(right) / len(right) == pytest.approx(run.metrics()[-1]["validation"]["accuracy"])
    loss = -sum(torch.tensor(each["label"]["probabilities"][("stone", "apple")[label]]).log().item()
                for each, label in zip(said, validation["label"][:], strict=True)) / len(said)
    assert loss == pytest.approx(run.metrics()[-1]["validation_loss"], abs=1e-4)


def test_a_contrastive_run_alone_gets_logistic_regression_as_its_head(base):
    from sklearn.linear_model import LogisticRegression

    recipe = tiny.recipe(base, "classify", objective="supervised_contrastive", epochs=2)
    ready = predictor.load(trainer.train_task(recipe, tiny.data("classify")))
    data = tiny.data("classify")
    embedded = lambda split: torch.from_numpy(ready.embed(data.splits[split]["text"][:]))  # noqa: E731
    unit = lambda split: torch.nn.functional.normalize(embedded(split), dim=-1).numpy()  # noqa: E731
    fitted = LogisticRegression(C=recipe.head_strength, max_iter=2000).fit(unit("train"), data.train["label"][:])
    said = [each["label"]["probabilities"]["apple"] for each in ready.predict(data.splits["test"]["text"][:])]
    assert said == pytest.approx(fitted.predict_proba(unit("test"))[:, 1].tolist(), abs=1e-4)


def test_token_drop_keeps_special_tokens_and_draws_the_same_for_the_same_step(base):
    learner = learner_of(base, "classify", token_drop=0.5)
    whole = learner.data.train[0]
    drawn = [learner._seen(0, step) for step in range(30)]
    assert drawn == [learner._seen(0, step) for step in range(30)]
    assert all((each.tokens[0], each.tokens[-1]) == (whole.tokens[0], whole.tokens[-1]) for each in drawn)
    assert all(len(each.tokens) == len(each.segments) for each in drawn)
    share = sum(len(each.tokens) - 2 for each in drawn) / (30 * (len(whole.tokens) - 2))
    assert 0.35 < share < 0.65 and min(len(each.tokens) for each in drawn) > 2


@pytest.mark.parametrize("kind", ["tag", "span"])
def test_token_drop_is_refused_where_the_answer_is_a_place(base, kind):
    with pytest.raises(LabError, match="token_drop.*set it to 0"):
        learner_of(base, kind, token_drop=0.15)


def test_the_recipes_dropout_takes_the_place_of_the_bases(base):
    for probability in (0.0, 0.3):
        learner = learner_of(base, "classify", dropout=probability)
        found = {module.p for module in learner.model.modules() if isinstance(module, torch.nn.Dropout)}
        assert found == {probability}


def test_a_contrastive_objective_refuses_data_without_what_it_needs(base):
    for kind, changes in (("tag", {"objective": "supervised_contrastive"}), ("classify", {"objective": "info_nce"}),
                          ("embed", {"objective": "cross_entropy"}), ("embed", {"objective": "supervised_contrastive"})):
        with pytest.raises(LabError, match="objective"):
            learner_of(base, kind, **changes)


def test_what_is_another_texts_positive_word_for_word_is_no_negative(base):
    """All anchors with one positive: there is nothing else to find, so nothing is lost."""
    learner = learner_of(base, "embed")
    learner.data.train[:] = [dataclasses.replace(example, others=learner.data.train[0].others[:1]) for example in learner.data.train]
    assert learner.step(list(range(8)), 0, World()).loss == pytest.approx(0, abs=1e-5)
