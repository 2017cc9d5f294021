"""An encoder learns the same from what its frozen layers gave once, of every task and method, in parts, and after a stop."""

import threading

import pytest

from labkit import places, runs
from labkit.training import trainer
from labkit.training.control import Control
from labkit.training.world import World
from tests.training.tasks import tiny
from tests.training.test_encoders import KINDS, after_steps, far, learner_of

METHODS = [{"method": "freeze", "layers": 1}, {"method": "head"}, {"method": "lora", "layers": 1}, {"method": "ia3", "layers": 1}]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "cache_folder", lambda: tmp_path / "cache")


def begun(learner):
    learner.prepare("tiny/run")
    return learner


CASES = [*[(kind, METHODS[0]) for kind in KINDS], *[("classify", changes) for changes in METHODS[1:]], ("tag", METHODS[1]),
         ("classify", {**METHODS[0], "objective": "supervised_contrastive"}), ("classify", {**METHODS[0], "pooling": "first"}),
         ("classify", {**METHODS[2], "objective": "triplet", "contrastive_weight": 0.5})]


@pytest.mark.parametrize(("kind", "changes"), CASES, ids=str)
def test_weights_and_measurements_are_those_of_the_whole_model(base, kind, changes):
    whole, ours = learner_of(base, kind, **changes), begun(learner_of(base, kind, **changes))
    assert ours.model.cut == (2 if changes["method"] == "head" else 1)
    (weights, losses), (kept, own) = after_steps(whole), after_steps(ours)
    assert own == pytest.approx(losses, abs=1e-5) and far(weights, kept) < 1e-5
    found, wanted = ours.measure(), whole.measure()
    assert found.keys() == wanted.keys() and found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("size", [1, 40])
@pytest.mark.parametrize("kind", ["classify", "embed"])
def test_a_batch_in_parts_gives_the_same(base, kind, size):
    whole, parted = (begun(learner_of(base, kind, **METHODS[0])) for _ in range(2))
    parted.micro_tokens = size
    assert far(after_steps(whole)[0], after_steps(parted)[0]) < 1e-5


@pytest.mark.parametrize("changes", [{"method": "full"}, {"method": "freeze", "layers": 2}, {**METHODS[0], "neftune": 3.0},
                                     {**METHODS[0], "token_drop": 0.2}], ids=str)
def test_nothing_is_kept_where_what_enters_changes_from_step_to_step(base, changes):
    learner = begun(learner_of(base, "classify", **changes))
    assert learner.model.cut == 0 and not places.cache_folder().exists()
    assert learner.step([0, 1], 0, World()).loss > 0


def test_another_text_or_cut_is_another_store_and_the_old_one_goes(base):
    begun(learner_of(base, "classify", **METHODS[0]))
    first = {each.name for each in (places.cache_folder() / "frozen").iterdir()}
    begun(learner_of(base, "classify", **METHODS[0]))
    assert {each.name for each in (places.cache_folder() / "frozen").iterdir()} == first and len(first) == 2  # training and validation
    begun(learner_of(base, "classify", **METHODS[1]))
    assert not first & {each.name for each in (places.cache_folder() / "frozen").iterdir()}


def test_a_stopped_training_goes_on_to_the_same_weights(base):
    changes = {**METHODS[0], "dropout": 0.1, "batch_size": 3, "epochs": 2, "checkpoint_steps": 50}
    whole = trainer.train_task(tiny.recipe(base, "classify", name="whole", **changes), tiny.data("classify"))
    recipe, stop = tiny.recipe(base, "classify", name="parts", **changes), threading.Event()
    run = trainer.train_task(recipe, tiny.data("classify"), on_step=lambda row: stop.set() if row["step"] == 2 else None,
                             control=Control(stop=stop))
    assert run.state() == "stopped"
    run = trainer.train_task(recipe, tiny.data("classify"))
    assert run.manifest()["model"] == whole.manifest()["model"] and runs.verify(run) == []
