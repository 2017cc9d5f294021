"""A round's sides, what it hides, its pace, and its vote."""

import dataclasses
import threading
from collections import Counter

import pytest

from apps import rounds
from apps.checkpoints import Checkpoint
from labkit import runs, scenarios
from labkit.errors import LabError
from labkit.evaluation import votes
from labkit.serving import Sampling, Speed, Weights


def checkpoints_of(scenario, tmp_path):
    run = runs.Run(tmp_path / scenario.name / "tuned")
    return [Checkpoint("base", scenario, "smollm2-135m-instruct"), Checkpoint(run.key, scenario, "smollm2-135m-instruct", run)]


def ended(asked):
    for number, answer in enumerate(asked.answers):
        adapter = f"{number}" * 64 if answer.checkpoint.run else None
        answer.pieces = ["said by ", answer.checkpoint.run_key]
        answer.weights = Weights("smollm2-135m-instruct", "b" * 64, adapter, "llama.cpp")
        answer.speed, answer.done = Speed(3, 2, 0.1, 50.0, stopped=number == 1), True
    return asked


@pytest.fixture
def start(scenario, tmp_path):
    def start_one(blind=False, system=None, chosen=None, language="en"):
        prompt = scenario.system_prompt(language) if system is None else system
        return rounds.start(scenario, language, "Why?", prompt, chosen or checkpoints_of(scenario, tmp_path), Sampling(seed=4), blind)

    return start_one


def test_unless_blind_the_sides_are_in_the_order_picked(start):
    asked = start()
    assert asked.shown == asked.answers and not asked.hidden


def test_blind_lot_decides_the_sides_and_not_who_answers(start):
    first = Counter()
    for _ in range(200):
        asked = start(blind=True)
        assert [answer.checkpoint.run_key for answer in asked.answers][0] == "base"
        assert sorted(map(id, asked.shown)) == sorted(map(id, asked.answers))
        first[asked.shown[0].checkpoint.run_key == "base"] += 1
    assert 60 < first[True] < 140  # 100 ± 40, five and a half standard deviations


def test_each_checkpoint_gets_the_prompt_it_was_trained_with(scenario, tmp_path, start):
    base, tuned = checkpoints_of(scenario, tmp_path)
    field = scenario.label_fields[0]
    narrow = scenario.narrowed(scenario.name, {field.name: ["mine", "yours"]}, [field.name])
    tuned = dataclasses.replace(tuned, scenario=narrow)
    asked = start(chosen=[base, tuned])
    assert [answer.messages[0]["content"] for answer in asked.answers] == [scenario.system_prompt("en"), narrow.system_prompt("en")]
    vote = rounds.ballot(ended(asked), "A", "", "s")
    assert vote.sampling["system_prompts"] == {"A": scenario.system_prompt("en"), "B": narrow.system_prompt("en")}


def test_a_changed_prompt_goes_to_all_and_an_empty_one_to_none(start):
    assert [answer.messages[0] for answer in start(system="Be brief.").answers] == [{"role": "system", "content": "Be brief."}] * 2
    assert [answer.messages for answer in start(system=" ").answers] == [[{"role": "user", "content": "Why?"}]] * 2


def test_a_chat_goes_on_behind_its_turns():
    assert rounds.messages("s", [("a", "b")], "c") == [
        {"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}]


def test_unseen_sides_keep_pace_with_the_slowest(start):
    asked = start(blind=True)
    asked.shown[0].pieces, asked.shown[1].pieces = ["1", "2", "3"], ["x"]
    assert asked.texts() == ["1", "x"]
    asked.shown[0].done = True
    assert asked.texts() == ["1", "x"]
    asked.shown[1].done = True
    assert asked.texts() == ["123", "x"]
    seen = start()
    seen.shown[0].pieces, seen.shown[1].pieces = ["1", "2", "3"], ["x"]
    assert seen.texts() == ["123", "x"]


def test_the_vote_is_kept_with_sides_hashes_and_sampling(start, scenario):
    asked = ended(start(blind=True))
    number = rounds.vote(asked, "B", " because ", "session")
    row = votes.all_votes(scenario.name)[0]
    assert row["id"] == number and (row["choice"], row["reason"], row["blind"]) == ("B", "because", True)
    assert row["messages"] == [{"role": "system", "content": scenario.system_prompt("en")}, {"role": "user", "content": "Why?"}]
    assert row["sampling"] == dataclasses.asdict(Sampling(seed=4))
    for side, answer, kept in zip("AB", asked.shown, row["candidates"], strict=True):
        assert (kept["side"], kept["run"], kept["answer"]) == (side, answer.checkpoint.run_key, f"said by {answer.checkpoint.run_key}")
        assert (kept["base"], kept["adapter"]) == ("b" * 64, answer.weights.adapter)
        assert kept["stopped"] is answer.speed.stopped
    assert not asked.hidden


def test_a_round_has_one_vote_however_often_one_clicks(start, scenario):
    asked, numbers = ended(start()), []
    threads = [threading.Thread(target=lambda: numbers.append(rounds.vote(asked, "A", "", "s"))) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(number is not None for number in numbers) == 1 == len(votes.all_votes(scenario.name))


def test_there_is_no_vote_before_all_have_ended_or_where_one_failed(start, scenario):
    asked = ended(start())
    asked.answers[0].done = False
    assert rounds.vote(asked, "A", "", "s") is None
    asked.answers[0].done, asked.answers[0].error = True, LabError("it is gone")
    assert rounds.vote(asked, "A", "", "s") is None
    assert votes.all_votes(scenario.name) == []


def test_asking_again_draws_new_sides_and_asks_the_same(start):
    old = ended(start())
    new = rounds.again(old, Sampling(seed=5), blind=True)
    assert [answer.messages for answer in new.answers] == [answer.messages for answer in old.answers]
    assert new.hidden and not new.voted and not new.ended and all(answer.sampling.seed == 5 for answer in new.answers)


@pytest.mark.parametrize("language", scenarios.LANGUAGES)
def test_a_round_speaks_the_pages_language(start, scenario, language):
    assert start(language=language).answers[0].messages[0]["content"] == scenario.system_prompt(language)
