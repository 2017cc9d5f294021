"""Votes become preference pairs, and comparisons go out to a real Argilla server as rankings and come back."""

import json
import uuid

import pytest

from labkit.errors import LabError
from labkit.evaluation import votes
from labkit.evaluation.votes import Candidate, Vote
from labkit.labeling import preferences, remote, sync

ASKED = [{"role": "system", "content": "Sort fruit."}, {"role": "user", "content": "又圆又红？"}]


def cast(choice, *answers, question=None, runs=("base", "small/x", "small/y", "small/z"), scenario="small"):
    shown = tuple(Candidate(side, run, answer, "b" * 64, None if run == "base" else run, "llama.cpp")
                  for side, run, answer in zip("ABCD", runs, answers, strict=False))
    messages = ASKED if question is None else [ASKED[0], {"role": "user", "content": question}]
    return votes.cast(Vote(scenario, "zh", messages, shown, choice))


def rows(found):
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"], row["votes"], row["against"]) for row in found.pairs]


def test_a_vote_is_a_pair_with_the_prompt_and_who_wrote_what():
    identity = cast("B", "pear", "apple")
    (row,) = preferences.pairs().pairs
    assert row == {"scenario": "small", "language": "zh", "prompt": ASKED, "chosen": [{"role": "assistant", "content": "apple"}],
                   "rejected": [{"role": "assistant", "content": "pear"}], "votes": [str(identity)], "against": [],
                   "chosen_by": ["small/x"], "rejected_by": ["base"]}


def test_votes_on_the_same_two_answers_are_one_pair_whichever_side_they_were_on():
    ids = [cast("A", "apple", "pear"), cast("B", "pear", "apple"), cast("B", "apple", "pear")]
    assert rows(preferences.pairs()) == [("apple", "pear", [str(ids[0]), str(ids[1])], [str(ids[2])])]


def test_what_votes_leave_open_is_left_out_and_counted():
    cast("tie", "a", "b", question="1")
    cast("both_bad", "a", "b", question="1")
    cast("A", "a", "b", question="2")
    cast("B", "a", "b", question="2")
    cast("A", "a", "a", question="3")
    found = preferences.pairs()
    assert (len(found.pairs), found.ties, found.both_bad, found.split, found.same) == (0, 1, 1, 1, 1)
    assert found.pairs.column_names == ["scenario", "language", "prompt", "chosen", "rejected", "votes", "against", "chosen_by",
                                        "rejected_by"]


def test_the_best_of_four_is_preferred_to_each_other_one():
    cast("C", "a", "b", "c", "d")
    assert sorted(row[:2] for row in rows(preferences.pairs())) == [("c", "a"), ("c", "b"), ("c", "d")]


def test_a_ranking_says_something_about_each_two_answers_that_differ():
    vote = {"id": "x", "scenario": "small", "language": "en", "messages": ASKED, "choice": "tie", "ranks": {"A": 1, "B": 1, "C": 2},
            "candidates": [{"side": side, "runs": [f"small/{side}"], "answer": side} for side in "ABC"]}
    found = preferences.pairs([vote])
    assert sorted(row[:2] for row in rows(found)) == [("A", "C"), ("B", "C")] and found.ties == 0


def test_pairs_are_of_one_scenario_where_it_is_named():
    cast("A", "a", "b")
    cast("A", "c", "d", scenario="other", runs=("base", "other/x"))
    assert [row[:2] for row in rows(preferences.pairs(scenario="other"))] == [("c", "d")]
    assert [row[:2] for row in rows(preferences.pairs(votes.all_votes(), scenario="other"))] == [("c", "d")]


def test_pairs_stand_as_trl_takes_them():
    pytest.importorskip("trl")
    from trl.data_utils import is_conversational

    cast("A", "apple", "pear")
    assert is_conversational(preferences.pairs().pairs[0])


def test_pairs_are_written_a_line_each(tmp_path):
    cast("A", "苹果\n红的", "pear")
    found = preferences.pairs()
    preferences.write(found, tmp_path / "out" / "pairs.jsonl")
    assert [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text("utf-8").splitlines()] == list(found.pairs)


def test_a_question_compared_twice_is_one_comparison_with_all_its_checkpoints():
    cast("A", "a", "b")
    cast("B", "b", "a", runs=("small/x", "small/y"))
    cast("tie", "same", "same", question="other")
    (found,) = preferences.comparisons()
    assert (found.answers, found.by, found.messages) == (["a", "b"], [["base", "small/y"], ["small/x"]], ASKED)


# Argilla


@pytest.fixture
def line(argilla_server):
    with sync.connect(argilla_server.url, argilla_server.owner_key) as opened:
        yield opened


@pytest.fixture
def name():
    return f"prefer-{uuid.uuid4().hex[:8]}"


def quiet(done, total):
    return None


def on_the_server(line, name, *include):
    return {each["external_id"]: each for page, _ in remote.records(line, remote.find(line, name), *include) for each in page}


def rank(person, record, order, good=None, status="submitted"):
    """Put the answers of a record into an order, best first, as a person does who reads their texts."""
    letters = {value: key.removeprefix("answer_").upper() for key, value in record["fields"].items() if key.startswith("answer_")}
    values = {"preference": {"value": [{"value": letters[text], "rank": place} for text, place in order.items()]}}
    if good:
        values["good"] = {"value": good}
    told = person.post("me/responses/bulk", {"items": [{"values": values, "status": status, "record_id": record["id"]}]})["items"][0]
    assert told["error"] is None, told


def test_comparisons_go_up_shuffled_and_without_a_trace_of_checkpoints(line, name):
    for number in range(12):
        cast("A", f"first {number}", f"second {number}", question=f"question {number}")
    asked = preferences.comparisons()
    sent = preferences.push(asked, line, dataset=name, seed=1, progress=quiet)
    assert sorted(sent.created) == sorted(each.id for each in asked) and sent.datasets == [name]
    there = on_the_server(line, name)
    for each in asked:
        fields = there[each.id]["fields"]
        assert fields["conversation"] == each.messages[1:] and sorted((fields["answer_a"], fields["answer_b"])) == each.answers
    assert len({there[each.id]["fields"]["answer_a"] == each.answers[0] for each in asked}) == 2  # some one way, some the other
    assert "small/x" not in str(there) and "base" not in str(there)
    again = preferences.push(asked, line, dataset=name, seed=2, progress=quiet)
    assert not again.created and len(again.unchanged) == 12 and on_the_server(line, name) == there


def test_rankings_come_back_as_votes_and_become_pairs(line, name, people):
    cast("tie", "good", "bad", question="1")
    cast("tie", "x", "y", "z", question="2")
    asked = {each.messages[1]["content"]: each for each in preferences.comparisons()}
    sent = preferences.push(list(asked.values()), line, dataset=name, seed=3, progress=quiet)
    assert sent.datasets == [name, f"{name}-3"]
    two, three = on_the_server(line, name)[asked["1"].id], on_the_server(line, f"{name}-3")[asked["2"].id]
    rank(people["ana"], two, {"good": 1, "bad": 2})
    rank(people["bo"], two, {"good": 1, "bad": 2})
    rank(people["晨"], two, {"bad": 1, "good": 2})
    rank(people["ana"], three, {"z": 1, "y": 2, "x": 2})
    rank(people["bo"], three, {"z": 1, "y": 2, "x": 3}, good="no")
    rank(people["晨"], three, {"z": 1, "y": 2, "x": 3}, status="draft")
    found = preferences.pull(line, dataset=name, progress=quiet)
    assert {(each["session"], each["messages"][1]["content"], each["choice"] in "ABC") for each in found.votes} == {
        ("ana", "1", True), ("bo", "1", True), ("晨", "1", True), ("ana", "2", True), ("bo", "2", False)}
    pairs = preferences.pairs(found.votes)
    assert {(better, worse, len(votes), len(against)) for better, worse, votes, against in rows(pairs)} == {
        ("good", "bad", 2, 1), ("z", "x", 1, 0), ("z", "y", 1, 0)}
    assert pairs.both_bad == 1 and pairs.pairs[0]["chosen_by"] == ["base"]
    said = {(each.record, each.annotator): each.value for each in found.annotations if each.field == "preference"}
    assert said[asked["2"].id, "ana"] == [2, 2, 1] and said[asked["1"].id, "晨"] == [1, 2]  # places of x, y, z; of bad, good
    assert preferences.pull(line, dataset=name, progress=quiet) == found
    assert len(preferences.pairs([*votes.all_votes(), *found.votes]).pairs) == 3  # along with the app's own


def test_a_ranking_that_changed_takes_the_place_of_the_old_one(line, name, people):
    cast("A", "good", "bad")
    preferences.push(preferences.comparisons(), line, dataset=name, progress=quiet)
    (record,) = on_the_server(line, name).values()
    rank(people["ana"], record, {"good": 1, "bad": 2})
    preferences.pull(line, dataset=name, progress=quiet)
    rank(people["ana"], record, {"good": 1, "bad": 1})
    (vote,) = preferences.pull(line, dataset=name, progress=quiet).votes
    assert vote["choice"] == "tie"
    assert preferences.pairs([vote]).ties == 1


def test_what_the_lab_database_does_not_know_is_named(line, name, tmp_path, monkeypatch):
    cast("A", "good", "bad")
    asked = preferences.comparisons()
    preferences.push(asked, line, dataset=name, progress=quiet)
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / "other"))
    found = preferences.pull(line, dataset=name, progress=quiet)
    assert found.unknown == [asked[0].id] and not found.votes


def test_nothing_to_compare_and_no_such_dataset_are_errors(line, name):
    with pytest.raises(LabError, match="vote on the app's Compare page first"):
        preferences.push([], line, dataset=name)
    with pytest.raises(LabError, match="has no dataset"):
        preferences.pull(line, dataset=name)
