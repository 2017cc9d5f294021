"""The range test finds rates that learn, stops where the loss runs away, and says so where it cannot tell; also in a recipe's training."""

import math
import random
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import models, records, runs, scenarios
from labkit.errors import LabError
from labkit.training import rate_finder, trainer
from labkit.training import recipe as recipes
from labkit.training.chat import CachedChat
from labkit.training.recipe import Recipe
from labkit.training.tasks import of_data
from tests.training.tasks import tiny


def descent(curvature, start=1.0):
    """Plain descent on curvature / 2 x^2, which diverges from a rate of 2 / curvature on."""
    place = [start]

    def step(rate):
        loss = curvature / 2 * place[0] ** 2
        place[0] -= rate * curvature * place[0]
        return loss
    return step


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 1000))
def test_on_a_parabola_the_suggestion_learns_and_is_below_where_descent_diverges(curvature):
    found = rate_finder.sweep(descent(curvature), 1e-7, 1e3, 120)
    assert found.suggestion is not None and 1e-3 / curvature < found.suggestion < 2 / curvature
    assert found.suggestion == min(found.steepest, found.lowest / 10)


def test_the_suggestion_is_a_starting_point_for_a_real_network():
    """Trained at the suggested rate, the loss is lower after 60 steps than at a thirtieth of it and at the rate where the sweep ended."""
    data = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    wanted = torch.tanh(data @ torch.randn(8, 4, generator=torch.Generator().manual_seed(1)))

    def learner():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4))
        optimiser = torch.optim.AdamW(model.parameters())
        draw = random.Random(0)

        def step(rate):
            rows = draw.sample(range(256), 32)
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            loss = (model(data[rows]) - wanted[rows]).square().mean()
            loss.backward()
            optimiser.step()
            return loss.item()
        return step

    found = rate_finder.sweep(learner(), 1e-6, 10, 100)

    def after(rate):
        step = learner()
        return sum([step(rate) for _ in range(60)][-10:])

    assert after(found.suggestion) < min(after(found.suggestion / 30), after(found.rates[-1]))


def test_a_loss_that_runs_away_or_is_no_number_ends_the_sweep():
    for far in (1e9, math.nan, math.inf):
        seen = []

        def step(rate, far=far, seen=seen):
            seen.append(rate)
            return 3.0 - 2 * len(seen) / 40 if rate < 0.1 else far

        found = rate_finder.sweep(step, 1e-4, 10, 50)
        assert found.diverged and len(seen) < 40 and all(math.isfinite(loss) for loss in found.losses)
        assert found.suggestion is not None and found.suggestion < 0.1


def test_where_nothing_is_learned_there_is_no_suggestion_and_a_reason():
    dice = random.Random(0)
    found = rate_finder.sweep(lambda rate: 2.0 + dice.gauss(0, 0.05), 1e-6, 1, 80)
    assert found.suggestion is None and "never fell" in found.reason and "噪声" in found.zh


def test_where_the_first_rate_is_too_high_already_there_is_no_suggestion():
    found = rate_finder.sweep(descent(1e6), 1.0, 10, 40)
    assert found.suggestion is None and found.diverged
    gone = rate_finder.sweep(lambda rate: math.nan, 1e-3, 1, 40)
    assert gone.suggestion is None and gone.losses == () and "lower rate" in gone.reason


def test_where_the_loss_still_falls_at_the_end_it_says_so():
    found = rate_finder.sweep(descent(1.0), 1e-5, 1e-1, 60)
    assert found.suggestion is not None and "still falls" in found.reason and not found.diverged


def test_rates_rise_by_a_constant_factor_and_progress_is_told():
    told = []
    found = rate_finder.sweep(lambda rate: 1.0, 1e-4, 1.0, 41, lambda done, every: told.append((done, every)))
    factors = {round(later / earlier, 9) for earlier, later in zip(found.rates, found.rates[1:], strict=False)}
    assert factors == {round(10 ** (4 / 40), 9)} and found.rates[-1] == pytest.approx(1.0)
    assert told[0] == (1, 41) and told[-1] == (41, 41)


@pytest.mark.parametrize(("low", "high", "steps"), [(1.0, 0.1, 50), (0.0, 1.0, 50), (1e-3, 1.0, 3)])
def test_sweeps_that_cannot_be_are_errors(low, high, steps):
    with pytest.raises(LabError, match="a sweep needs"):
        rate_finder.sweep(lambda rate: 1.0, low, high, steps)


def on_disk(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture()
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


def chat(base, **changes):
    return Recipe(**{"scenario": "small", "base": base, "rank": 4, "layers": 2, "epochs": 2, "batch_size": 4, "precision": "fp32",
                     "learning_rate": 1e-3, **changes})


@pytest.mark.parametrize("changes", [
    {}, {"method": "full", "layers": 0}, {"optimiser": "schedule_free"}, {"optimiser": "muon", "ema": 0.9, "schedule": "one_cycle"}])
def test_a_chat_recipe_is_swept_over_its_own_batches_and_leaves_its_run_alone(tiny_base, small_records, small_scenario, cache, changes):
    recipe = chat(tiny_base, **changes)
    found = rate_finder.of_recipe(recipe, small_records, small_scenario, low=1e-6, high=1.0, steps=20)
    assert not runs.folder_for("small", "default").exists() and len(found.losses) >= 8
    assert all(path.relative_to(cache).parts[0] in ("frozen", "models") for path in on_disk(cache))
    asked = []
    run = trainer.train(recipe, small_records, small_scenario, on_prepare=lambda *told: asked.append(told))
    assert asked == []  # what the frozen layers gave is there already, or nothing is kept
    assert run.metrics()[0]["loss"] == pytest.approx(found.losses[0])
    before = on_disk(run.folder)
    again = rate_finder.of_recipe(recipe, small_records, small_scenario, low=1e-6, high=1.0, steps=20)
    assert on_disk(run.folder) == before and again == found


@pytest.mark.parametrize("kind", ["classify", "regress", "tag", "span", "embed"])
def test_an_encoder_is_swept_whatever_its_task(tiny_bert, kind):
    recipe = tiny.recipe(tiny_bert, kind)
    told = []
    found = rate_finder.of_recipe(recipe, tiny.data(kind), low=1e-5, high=0.1, steps=30, on_step=lambda *seen: told.append(seen))
    first = trainer.train_task(recipe, tiny.data(kind)).metrics()[0]["loss"]
    assert found.losses[0] == pytest.approx(first) and told[-1][1] == 30
    assert min(found.smoothed) < found.smoothed[0]


def test_a_chat_on_a_tasks_own_data_is_swept(tiny_base, cache):
    found = rate_finder.of_recipe(tiny.recipe(tiny_base, "chat", method="lora"), tiny.data("chat"), low=1e-5, high=1.0, steps=24)
    assert found.suggestion is not None and 1e-5 < found.suggestion < 1.0


def test_the_suggestion_for_a_classifier_learns_more_than_a_hundredth_of_it(tiny_bert):
    """After as many steps as its training has, at a constant rate."""
    data = tiny.data("classify", 32)
    recipe = tiny.recipe(tiny_bert, "classify", epochs=10, schedule="constant", warmup=0.0)
    found = rate_finder.of_recipe(recipe, data, low=1e-5, high=1.0, steps=60)

    def after(rate, name):
        changed = recipes.from_dict({**recipes.plain(recipe), "learning_rate": rate, "name": name})
        return trainer.train_task(changed, data).metrics()[-1]["loss"]

    assert after(found.suggestion, "found") < after(found.suggestion / 100, "lower")


def test_each_group_moves_at_its_own_multiple_of_the_rate(tiny_bert):
    """A head's step under AdamW is at first the rate times `head_rate`, whatever the gradient."""
    recipe = tiny.recipe(tiny_bert, "classify", head_rate=4.0)
    learner, _ = of_data.learner(recipe, tiny.data("classify"), models.resolve(tiny_bert))
    head = next(name for name in learner.masters if name.startswith("heads.") and name.endswith("weight"))
    before = learner.masters[head].detach().clone()
    rate_finder._step_of(recipe, learner)(1e-4)
    assert (learner.masters[head] - before).abs().max().item() == pytest.approx(4e-4, rel=1e-3)


def test_a_batch_that_memory_does_not_suffice_for_goes_through_in_parts(tiny_base, small_records, small_scenario, cache, monkeypatch):
    limits, step = [], CachedChat.step

    def short(self, rows, index, world):
        limits.append(self.micro_tokens)
        if self.micro_tokens > 200:
            raise MemoryError
        return step(self, rows, index, world)

    monkeypatch.setattr(CachedChat, "step", short)
    found = rate_finder.of_recipe(chat(tiny_base), small_records, small_scenario, steps=8)
    assert len(found.losses) == 8 and limits[0] == 8192 and limits[-1] <= 200


def test_the_table_marks_the_row_nearest_to_the_suggestion_and_says_why_in_both_languages():
    found = rate_finder.sweep(descent(1.0), 1e-4, 1e2, 60)
    for language, word, why in (("en", "suggested", found.reason), ("zh", "建议", found.zh)):
        lines = rate_finder.as_text(found, language).splitlines()
        marked = [line for line in lines if line.endswith(f"← {word}")]
        assert len(marked) == 1 and lines[-1].startswith(word) and lines[-1].endswith(why) and len(lines) <= 20
        rates = [float(line.split()[0]) for line in lines[2:-2]]
        gap = math.log(rates[1] / rates[0])
        assert abs(math.log(float(marked[0].split()[0]) / found.suggestion)) < 0.55 * gap and rates == sorted(rates)  # rounded
    nothing = rate_finder.sweep(lambda rate: math.nan, 1e-3, 1, 40)
    assert rate_finder.as_text(nothing) == f"nothing is suggested: {nothing.reason}"
    assert "←" not in rate_finder.as_text(rate_finder.sweep(lambda rate: 1.0, 1e-3, 1, 40))


def command(*words):
    return subprocess.run([sys.executable, "-c", "from labkit.cli import main; main()", "train", "--find-rate", *words],
                          capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_command_shows_the_curve_and_the_suggestion_and_trains_nothing(tiny_base, tmp_path, cache):
    few = str(tmp_path / "few.jsonl")
    records.write(records.in_split(records.samples(scenarios.load("legal")), "train").select(range(6)), few)
    done = command("-s", "legal", "--source", few, "--base", tiny_base, "--set", "layers=1", "--set", "batch_size=2")
    assert done.returncode == 0, done.stderr
    assert "rate " in done.stdout and "█" in done.stdout and "the recipe's own rate is 0.002" in done.stdout
    assert not runs.folder_for("legal", "default").exists()


@pytest.mark.slow
def test_the_command_finds_a_rate_for_a_tasks_own_data_in_chinese(tiny_bert, tmp_path):
    done = command("--data", "samples/sentiment", "--base", tiny_bert, "--set", "learning_rate=1e-3", "--language", "zh")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("学习率") and "配方自己的学习率是 0.001" in done.stdout
    assert not list((tmp_path / "runs").rglob("*"))


@pytest.mark.parametrize("words", [("--launcher", "accelerate"), ("--track", "tensorboard"), ("--dry-run",)])
def test_what_a_sweep_cannot_take_is_refused(words):
    done = command("-s", "legal", *words)
    assert done.returncode == 2 and "leave out --launcher, --track and --dry-run" in done.stderr
