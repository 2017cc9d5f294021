"""An encoder's heads learn from a teacher's by the paper's formula, whatever they predict, and say where they cannot."""

import dataclasses
import shutil

import pytest
import torch

from labkit import models, runs
from labkit.errors import LabError
from labkit.training import predictor, teacher_heads, trainer
from labkit.training.control import Control
from labkit.training.tasks import of_data, passes
from labkit.training.tasks.task import Head
from labkit.training.world import World
from tests.training.tasks import tiny

KINDS = ("classify", "pairs", "multi_label", "regress", "tag", "span")
WEIGHT, TEMPERATURE = 0.7, 2.0


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    """Another random encoder with the same tokens."""
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("wider") / "bert", hidden_size=48)


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch, base, wider):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


def recipe_of(base, kind, **changes):
    return tiny.recipe(base, kind, **{"precision": "fp32", "dropout": 0.0, **changes})


def teacher_of(base, kind, **changes):
    """A finished run on the same data, as recipes name it."""
    return trainer.train_task(recipe_of(base, kind, name="teacher", method="full", epochs=2, **changes), tiny.data(kind)).key


def taught(base, kind, teacher, **changes):
    torch.manual_seed(1)
    recipe = recipe_of(base, kind, method="full", teacher=teacher, teacher_weight=WEIGHT, teacher_temperature=TEMPERATURE, **changes)
    learner = of_data.learner(recipe, tiny.data(kind), models.resolve(base))[0]
    learner.prepare("x/y")
    return learner


def by_formula(head, ours, theirs, example):
    """One text's summed loss, written out in float64: w T^2 sum p log(p / q) and (1 - w) times the plain loss."""
    ours, theirs, target = ours.double(), torch.from_numpy(theirs).double(), example.targets[head.name]

    def both(scores, other, right):
        p, q = (torch.softmax(each / TEMPERATURE, -1) for each in (other, scores))
        return WEIGHT * TEMPERATURE**2 * (p * (p / q).log()).sum() - (1 - WEIGHT) * torch.softmax(scores, -1)[right].log()

    match head.kind:
        case "label":
            return both(ours, theirs, target)
        case "labels":
            return sum(both(torch.stack([one * 0, one]), torch.stack([other * 0, other]), int(right))
                       for one, other, right in zip(ours, theirs, target, strict=True))
        case "number":
            return WEIGHT * (ours[0] - theirs[0]) ** 2 + (1 - WEIGHT) * (ours[0] - target) ** 2
        case "tags":
            return sum(both(one, other, tag) for one, other, tag in zip(ours, theirs, target, strict=False) if tag != -100)
        case "span":
            there = len(example.tokens)
            return sum(both(ours[:there, side], theirs[:there, side], target[side]) for side in (0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_formula(base, wider, kind):
    learner = taught(base, kind, teacher_of(wider, kind))
    (head,) = learner.data.heads
    rows = [row for _, rows in learner.plan() for row in rows][:5]
    examples = [learner._seen(row, 0) for row in rows]
    learner.step(rows, 0, World())
    got = {name: value.grad.clone() for name, value in learner.masters.items() if value.grad is not None}
    teacher = predictor.load(runs.find(learner.recipe.teacher))
    plain = [learner.data.train[row] for row in rows]
    theirs = [output for example in plain for output in teacher.outputs([example])[head.name]]
    (other,) = teacher.heads
    if head.kind == "number":
        theirs = [((output * other.scale + other.centre) - head.centre) / head.scale for output in theirs]
    learner.drop_gradients()
    batch = passes.collate([(example.tokens, example.segments) for example in examples], "cpu")
    outputs = learner.model(batch)[head.name]
    weight = learner.losses.weights(plain)[head.name]
    wanted = sum(by_formula(head, ours, their, example) for ours, their, example in zip(outputs, theirs, plain, strict=True)) / weight
    wanted.backward()
    compared = 0
    for name, parameter in learner.model.named_parameters():
        if parameter.grad is not None and name in got:
            assert torch.allclose(got[name], parameter.grad, atol=1e-5), name
            compared += 1
    assert compared > 10


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_give_the_same_gradient_and_the_plain_loss_is_told(base, wider, kind):
    teacher = teacher_of(wider, kind)
    found = []
    for size in (10_000, 1):
        learner = taught(base, kind, teacher, micro_tokens=size)
        rows = learner.plan()[0][1]
        loss = learner.step(rows, 0, World()).loss
        found.append({name: value.grad.clone() for name, value in learner.masters.items() if value.grad is not None})
    assert max((found[0][name] - found[1][name]).abs().max() for name in found[0]) < 1e-5
    torch.manual_seed(1)
    alone = of_data.learner(recipe_of(base, kind, method="full"), tiny.data(kind), models.resolve(base))[0]
    alone.prepare("x/z")
    assert alone.step(rows, 0, World()).loss == pytest.approx(loss, abs=1e-5)


def test_a_teachers_number_comes_in_the_students_scale():
    ours = Head("size", "number", centre=2.0, scale=3.0)
    theirs = dataclasses.replace(ours, centre=5.0, scale=6.0)
    value = torch.tensor([1.5]).numpy()
    assert teacher_heads._rescaled(value, theirs, ours) * 3.0 + 2.0 == pytest.approx(1.5 * 6.0 + 5.0)


def test_a_student_comes_nearer_to_its_teacher(base, wider):
    teacher = teacher_of(wider, "classify")
    run = runs.find(teacher)

    def distance(learner):
        examples = learner.data.train
        theirs = predictor.load(run).outputs(examples)["label"]
        ours = passes.run(learner.model, examples, "cpu")["label"]
        return sum(((torch.softmax(torch.from_numpy(a), -1) - torch.softmax(torch.from_numpy(b), -1)) ** 2).sum().item()
                   for a, b in zip(ours, theirs, strict=True))

    learner = taught(base, "classify", teacher, epochs=10)
    before = distance(learner)
    for index, (_, rows) in enumerate(learner.plan()):
        learner.step(rows, index, World())
        with torch.no_grad():
            for value in learner.masters.values():
                if value.grad is not None:
                    value -= 0.1 * value.grad
        learner.push()
    assert distance(learner) < before / 2


def test_a_taught_training_goes_on_to_the_same_weights(base, wider):
    teacher = teacher_of(wider, "classify")
    recipe = lambda name: recipe_of(base, "classify", name=name, layers=1, epochs=3, batch_size=4, checkpoint_steps=1,  # noqa: E731
                                    teacher=teacher)
    whole = trainer.train_task(recipe("whole"), tiny.data("classify"))
    control = Control()
    trainer.train_task(recipe("part"), tiny.data("classify"), on_step=lambda row: row["step"] == 2 and control.stop(), control=control)
    part = trainer.train_task(recipe("part"), tiny.data("classify"))
    assert part.weights_sha256() == whole.weights_sha256()


def test_a_manifest_names_the_teacher_and_another_one_of_its_name_begins_anew(base, wider):
    key = teacher_of(wider, "classify")
    recipe = recipe_of(base, "classify", epochs=4, batch_size=4, checkpoint_steps=1, teacher=key)

    def until(step):
        control, rows = Control(), []
        run = trainer.train_task(recipe, tiny.data("classify"), control=control,
                                 on_step=lambda row: rows.append(row["step"]) or row["step"] == step and control.stop())
        return run, rows

    assert until(2)[1] == [1, 2]
    assert until(3)[1] == [3]
    shutil.rmtree(runs.find(key).folder)
    teacher_of(wider, "classify", seed=5)
    run, rows = until(100)
    assert rows == list(range(1, 9))
    assert run.manifest()["data"]["teacher"] == {"name": key, "sha256": runs.find(key).weights_sha256()}


def test_a_teacher_that_does_not_fit_is_refused(base, tiny_base):
    wrong = teacher_of(base, "tag")
    with pytest.raises(LabError, match="no head 'label'"):
        taught(base, "classify", wrong)
    with pytest.raises(LabError, match="neither a run"):
        taught(base, "classify", "no/thing")
    with pytest.raises(LabError, match="has no heads"):
        taught(base, "classify", tiny_base)
    for changes, said in (({"objective": "supervised_contrastive"}, "by cross_entropy"), ({"task": "embed"}, "by cross_entropy"),
                          ({"label_smoothing": 0.1}, "leave label_smoothing"), ({"class_weights": "balanced"}, "leave label_smoothing")):
        with pytest.raises(LabError, match=said):
            recipe_of(base, "classify", **{"teacher": wrong, **changes})
