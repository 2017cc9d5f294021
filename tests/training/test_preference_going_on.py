"""Preference training that is stopped, paused or killed, runs out of disk or memory, or meets what is no number: it goes on or says why."""

import dataclasses
import functools
import math
import os
import signal
import sys
import threading
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from labkit import runs, scenarios
from labkit.errors import LabError
from labkit.training import preference, preference_recipe, preference_trl
from labkit.training.control import Control
from tests.training.test_kill import _FORKED, far, told, with_small_files
from tests.training.test_preference import pairs, recipe_of


@pytest.fixture(scope="module")
def scenario():
    return dataclasses.replace(scenarios.load(scenarios.names()[0]), name="small")


def run_of(recipe):
    return runs.Run(runs.folder_for(recipe.scenario, recipe.name))


def stopped_after(step, recipe, scenario, data=None):
    """The run, stopped after this step."""
    stop = threading.Event()
    return preference.train(recipe, data or pairs(), scenario, on_step=lambda row: row["step"] == step and stop.set(),
                            control=Control(stop=stop))


def checkpoint_step(run):
    with safe_open(run.folder / "checkpoint" / "state.safetensors", framework="pt") as file:
        return int(file.metadata()["step"])


# stopped


@pytest.mark.slow
@pytest.mark.parametrize("method", preference_recipe.METHODS)
@pytest.mark.parametrize("steps", [(1,), (2, 3), (4, 5)])  # within an epoch, at its end, within the next one; an epoch has three
def test_a_training_that_was_stopped_ends_in_the_same_weights_and_rows(method, steps, tiny_base, scenario):
    recipe = lambda name: recipe_of(tiny_base, name=name, method=method, micro_pairs=1, epochs=3, warmup=0.3)  # noqa: E731
    whole = preference.train(recipe("whole"), pairs(), scenario)
    torch.manual_seed(77)  # what the process did before does not matter
    for step in steps:
        run = stopped_after(step, recipe("stopped"), scenario)
        assert run.state() == "stopped" and checkpoint_step(run) == step
    run = preference.train(recipe("stopped"), pairs(), scenario)
    assert run.weights_sha256() == whole.weights_sha256() and told(run) == told(whole)


def test_a_training_goes_on_from_another_runs_adapter_and_measures_from_it_still(tiny_base, scenario):
    preference.train(recipe_of(tiny_base, name="start", max_steps=2), pairs(), scenario)
    recipe = lambda name: recipe_of(tiny_base, name=name, start="small/start")  # noqa: E731
    whole = preference.train(recipe("whole"), pairs(), scenario)
    stopped_after(3, recipe("stopped"), scenario)
    assert preference.train(recipe("stopped"), pairs(), scenario).weights_sha256() == whole.weights_sha256()


def test_another_recipe_or_other_pairs_begin_anew(tiny_base, scenario):
    recipe = recipe_of(tiny_base, held_out=0.0)
    for changed, data in ((dataclasses.replace(recipe, learning_rate=1e-3), pairs()), (recipe, pairs(5))):
        stopped_after(2, recipe, scenario)
        rows = []
        run = preference.train(changed, data, scenario, on_step=rows.append)
        assert rows[0]["step"] == 1 and rows == run.metrics()
        run.folder.rename(run.folder.with_name(f"other{changed.learning_rate}"))


def test_who_pauses_finds_a_checkpoint_and_may_stop(tiny_base, scenario):
    recipe, control = recipe_of(tiny_base, held_out=0.0), Control()
    found = []

    def stop_when_halted():
        until = time.monotonic() + 30
        while not control.waiting and time.monotonic() < until:
            time.sleep(0.01)
        found.append(checkpoint_step(run_of(recipe)))
        control.stop()

    thread = threading.Thread(target=stop_when_halted)
    thread.start()
    run = preference.train(recipe, pairs(), scenario, on_step=lambda row: row["step"] == 2 and control.pause(), control=control)
    thread.join()
    assert found == [2] and len(run.metrics()) == 2 and run.state() == "stopped"


def test_one_that_was_killed_after_its_last_step_is_finished(tiny_base, scenario, monkeypatch):
    recipe = lambda name: recipe_of(tiny_base, name=name, max_steps=4)  # noqa: E731
    whole = preference.train(recipe("whole"), pairs(), scenario)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        def killed(*_):
            raise KeyboardInterrupt
        patch.setattr(preference._Training, "_finish", killed)
        preference.train(recipe("killed"), pairs(), scenario)
    run = preference.train(recipe("killed"), pairs(), scenario)
    assert run.weights_sha256() == whole.weights_sha256() and told(run) == told(whole)


# what is no number, or runs away


def with_losses(monkeypatch, changed):
    """DPO's loss of training is `changed` of it and of which part it is, counted from 1."""
    from trl import DPOTrainer

    before, passed = DPOTrainer.compute_loss, []

    def compute_loss(self, model, inputs, *rest, **more):
        loss = before(self, model, inputs, *rest, **more)
        if not model.training:
            return loss
        passed.append(1)
        return changed(loss, len(passed))

    monkeypatch.setattr(DPOTrainer, "compute_loss", compute_loss)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_stops_before_the_weights_move_and_keeps_them(what, tiny_base, scenario, monkeypatch):
    whole = preference.train(recipe_of(tiny_base, name="whole"), pairs(), scenario)

    def broken(loss, part):
        if part < 5:
            return loss
        return loss * math.nan if what == "loss" else loss + (loss - loss.detach()).sqrt()  # a root's gradient at 0 is infinite

    with monkeypatch.context() as patch:
        with_losses(patch, broken)
        with pytest.raises(LabError, match=f"run small/preferred: the {what} is not a number at step 5; weights are sound.*Lower "
                                           r"learning_rate \(0.02\).*the state before this step is kept"):
            preference.train(recipe_of(tiny_base), pairs(), scenario)
    run = run_of(recipe_of(tiny_base))
    assert checkpoint_step(run) == 4 and len(run.metrics()) == 4
    assert preference.train(recipe_of(tiny_base), pairs(), scenario).weights_sha256() == whole.weights_sha256()


def test_a_loss_that_runs_away_is_stopped_as_in_ordinary_training(tiny_base, scenario, monkeypatch):
    with_losses(monkeypatch, lambda loss, part: loss * part)
    recipe = recipe_of(tiny_base, epochs=30, learning_rate=1e-6, held_out=0.0)
    with pytest.raises(LabError, match="the loss runs away: .* at its best; stopped at step .* or raise warmup"):
        preference.train(recipe, pairs(), scenario)
    assert checkpoint_step(run_of(recipe)) == len(run_of(recipe).metrics()) == 22  # then nearly all of twenty lie above the first five


# memory


def with_memory_for(monkeypatch, most):
    """From the second step on, memory suffices for so many pairs at once; gives how many each part had that was passed."""
    from trl import DPOTrainer

    before, passed = DPOTrainer.compute_loss, []

    def compute_loss(self, model, inputs, *rest, **more):
        count = inputs["input_ids"].shape[0] // 2
        if model.training and count > most and self.state.global_step:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if model.training:
            passed.append(count)
        return before(self, model, inputs, *rest, **more)

    monkeypatch.setattr(DPOTrainer, "compute_loss", compute_loss)
    return passed


def test_a_step_for_which_memory_does_not_suffice_goes_on_in_smaller_parts_of_the_same_batch(tiny_base, scenario, monkeypatch):
    recipe = lambda name: recipe_of(tiny_base, name=name, batch_size=6, epochs=4, held_out=0.0, learning_rate=1e-3)  # noqa: E731
    plain, said = preference.train(recipe("plain"), pairs(12), scenario), []
    passed = with_memory_for(monkeypatch, 2)
    tight = preference.train(recipe("tight"), pairs(12), scenario, say=said.append)
    assert passed == [6] + [1] * 42  # the first step, then 6 do not fit, nor 3
    assert [line for line in said if "memory" in line] == [
        "memory does not suffice for 6 pairs at once at step 2; going on with 3 at once, and 6 a step as before",
        "memory does not suffice for 3 pairs at once at step 2; going on with 1 at once, and 6 a step as before"]
    assert [row["loss"] for row in tight.metrics()] == pytest.approx([row["loss"] for row in plain.metrics()], abs=1e-5)
    assert [row["tokens"] for row in tight.metrics()] == [row["tokens"] for row in plain.metrics()]
    assert far(load_file(plain.weights_path), load_file(tight.weights_path)) < 1e-4


def test_memory_that_does_not_suffice_for_one_pair_is_an_error_and_leaves_a_checkpoint(tiny_base, scenario, monkeypatch):
    with_memory_for(monkeypatch, 0)
    with pytest.raises(LabError, match="memory does not suffice for a single pair at step 2; lower max_tokens"):
        preference.train(recipe_of(tiny_base), pairs(), scenario)
    assert checkpoint_step(run_of(recipe_of(tiny_base))) == 1


@pytest.mark.parametrize("method", preference_recipe.METHODS)
def test_memory_that_does_not_suffice_to_measure_halves_what_is_measured_at_once(method, tiny_base, scenario, monkeypatch):
    """And the figures are the same however many pairs are measured at once, here 5 and 1 of five."""
    kind = preference_trl._classes(method)[0]
    recipe = lambda name: recipe_of(tiny_base, name=name, method=method, held_out=0.5, batch_size=6, micro_pairs=6)  # noqa: E731
    plain = preference.train(recipe("plain"), pairs(11), scenario)
    before, seen = kind.prediction_step, []

    def prediction_step(self, model, inputs, *rest, **more):
        count = self.args.per_device_eval_batch_size // (2 if method == "kto" else 1)
        seen.append(count)
        if count > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return before(self, model, inputs, *rest, **more)

    monkeypatch.setattr(kind, "prediction_step", prediction_step)
    tight = preference.train(recipe("tight"), pairs(11), scenario)
    assert seen == [5, 1, 1, 1, 1, 1, *[1] * 5]
    for one, other in zip(plain.metrics(), tight.metrics(), strict=True):
        if method != "kto":  # whose divergence is taken over what is measured at once
            assert other["validation_loss"] == pytest.approx(one["validation_loss"], abs=1e-4)
        for name in ("reward_margin", "chosen_log_probability", "reward_accuracy"):
            assert other["validation"].get(name) == pytest.approx(one["validation"].get(name), abs=2e-4)


def test_memory_that_does_not_suffice_to_measure_one_pair_leaves_the_step_before_it(tiny_base, scenario, monkeypatch):
    from trl import DPOTrainer

    with monkeypatch.context() as patch:
        def prediction_step(*_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory")
        patch.setattr(DPOTrainer, "prediction_step", prediction_step)
        with pytest.raises(LabError, match="memory does not suffice to measure a single pair after step 3; lower max_tokens"):
            preference.train(recipe_of(tiny_base), pairs(), scenario)
    assert checkpoint_step(run_of(recipe_of(tiny_base))) == len(run_of(recipe_of(tiny_base)).metrics()) == 3
    assert preference.train(recipe_of(tiny_base), pairs(), scenario).state() == "done"


def test_parts_may_be_made_smaller_without_beginning_anew(tiny_base, scenario):
    recipe, rows = recipe_of(tiny_base, held_out=0.0), []
    stopped_after(2, recipe, scenario)
    preference.train(dataclasses.replace(recipe, micro_pairs=1), pairs(), scenario, on_step=rows.append)
    assert rows[0]["step"] == 3


# killed, each in a process of its own


def train(recipe, data, scenario, environment, limit=None, output=None):
    """What a child does: exit code 2 after a LabError, which `output` tells."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    if limit:
        limit()
    try:
        preference.train(recipe, data, scenario)
    except LabError as error:
        output.write_text(str(error))
        sys.exit(2)


def start(recipe, scenario, data=None, **more):
    environment = {name: value for name, value in os.environ.items() if name.startswith("LABKIT_")}
    process = _FORKED.Process(target=train, args=(recipe, data or pairs(), scenario, environment), kwargs=more)
    process.start()
    return process


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_training_that_is_killed_again_and_again_ends_in_the_same_weights_and_rows(method, tiny_base, scenario):
    recipe = lambda name: recipe_of(tiny_base, name=name, method=method, epochs=14, checkpoint_steps=4)  # noqa: E731
    whole, killed = preference.train(recipe("whole"), pairs(), scenario), run_of(recipe("killed"))
    steps = len(whole.metrics())
    path = killed.folder / "metrics.jsonl"
    for wanted in (2, steps // 2, steps - 3):  # before the first checkpoint, half-way, shortly before the end
        process = start(recipe("killed"), scenario)
        until = time.monotonic() + 60
        while (path.read_text().count("\n") if path.exists() else 0) < wanted and process.is_alive() and time.monotonic() < until:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL and killed.state() == "stopped"
    folder = killed.folder / "checkpoint"
    (folder / ".state.safetensors.abc.part").write_bytes(b"half")  # killed while it wrote
    assert len(list(folder.glob("*.safetensors"))) == 1
    preference.train(recipe("killed"), pairs(), scenario)
    assert killed.weights_sha256() == whole.weights_sha256() and told(killed) == told(whole)
    assert not list(killed.folder.rglob("*.part")) and not folder.exists()


# the disk


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size")
@pytest.mark.parametrize(("what", "most", "left"), [("checkpoint/state.safetensors", 9_000, 0), ("metrics.jsonl", 45_000, 2)])
def test_a_file_that_cannot_be_written_is_named_and_the_last_checkpoint_stays(what, most, left, tiny_base, scenario, tmp_path):
    """The first limit is too small for a checkpoint, the second for the rows of 480 steps."""
    data = [dataclasses.replace(pair, chosen=f"{pair.chosen} {number}") for number in range(40) for pair in pairs()]
    recipe = recipe_of(tiny_base, checkpoint_steps=2, epochs=4, held_out=0.0, rank=1, layers=1)
    process = start(recipe, scenario, data, limit=functools.partial(with_small_files, most), output=tmp_path / "said")
    process.join(120)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 2 and f"/small/preferred/{what}" in said and "File too large" in said and "\n" not in said
    run = run_of(recipe)
    assert run.state() == "stopped" and not list(run.folder.rglob("*.part"))
    assert not left or checkpoint_step(run) >= left
