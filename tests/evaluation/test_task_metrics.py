"""Measures of tasks: values from arithmetic, from papers, and from other libraries."""

import math
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.evaluation import task_metrics as metrics

TAGS = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), min_size=6, max_size=6)


def test_classification_is_that_of_the_usual_example():
    # Twelve pictures, of eight cats six are found, of four dogs three (the example of Wikipedia's article on the coefficient).
    truth, predicted = [1] * 8 + [0] * 4, [1] * 6 + [0] * 2 + [1] + [0] * 3
    found = metrics.score("classify", truth, predicted)
    assert found["accuracy"] == pytest.approx(9 / 12)
    assert found["matthews"] == pytest.approx((6 * 3 - 1 * 2) / math.sqrt(7 * 8 * 4 * 5))
    assert found["precision"] == pytest.approx(6 / 7) and found["recall"] == pytest.approx(6 / 8) and found["f1"] == pytest.approx(12 / 15)
    assert found["macro_f1"] == pytest.approx((12 / 15 + 6 / 9) / 2)
    assert found["micro_f1"] == pytest.approx(9 / 12)
    assert found["weighted_f1"] == pytest.approx((8 * 12 / 15 + 4 * 6 / 9) / 12)


def test_with_more_than_two_labels_there_is_no_f1_of_label_1():
    assert "f1" not in metrics.score("classify", [0, 1, 2], [0, 1, 1]) and "f1" in metrics.score("classify", [1, 1], [1, 1])


def test_a_constant_guess_has_no_correlation():
    assert metrics.score("classify", [0, 1], [1, 1], ["matthews"]) == {"matthews": 0.0}
    assert metrics.score("regress", [1.0, 2.0], [3.0, 3.0], ["pearson", "spearman"]) == {"pearson": 0.0, "spearman": 0.0}
    assert metrics.score("regress", [1.0], [3.0], ["pearson"]) == {"pearson": 0.0}


def test_each_label_has_its_own_values_even_where_it_never_occurs():
    found = metrics.by_label([0, 0, 1], [0, 1, 1], ["a", "b", "c"])
    assert found == {"a": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "count": 2.0},
                     "b": {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "count": 1.0},
                     "c": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "count": 0.0}}


def test_correlations_are_those_of_the_textbook():
    # Intelligence quotient and hours of television a week (Wikipedia, Spearman's rank correlation coefficient): -29/165.
    first, second = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110], [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert metrics.score("regress", first, second)["spearman"] == pytest.approx(-29 / 165)
    found = metrics.score("regress", [1, 2, 3], [1, 2, 6])
    assert found["pearson"] == pytest.approx(5 / math.sqrt(2 * 14))
    assert found["mean_absolute_error"] == 1.0 and found["mean_squared_error"] == 3.0


def test_several_labels_are_counted_over_all_rows():
    found = metrics.score("multi_label", [["a", "b"], ["b"], []], [["a"], ["b", "c"], []])
    assert found["micro_f1"] == pytest.approx(2 * 2 / (3 + 3)) and found["exact_match"] == pytest.approx(1 / 3)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3) and found["weighted_f1"] == pytest.approx((1 * 1 + 2 * 2 / 3) / 3)
    assert metrics.score("multi_label", [[], []], [[], []])["exact_match"] == 1.0


@pytest.mark.filterwarnings("ignore")  # seqeval warns where it divides by zero
@settings(deadline=None)
@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=4))
def test_entities_are_counted_as_seqeval_does_strictly(rows):
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    truth, predicted = [list(side) for side in zip(*rows, strict=True)]
    found = metrics.score("tag", truth, predicted)
    for name, measure in (("entity_f1", f1_score), ("entity_precision", precision_score), ("entity_recall", recall_score)):
        assert found[name] == pytest.approx(measure(truth, predicted, mode="strict", scheme=IOB2, zero_division=0))


@pytest.mark.parametrize("text, wanted", [("The  Cat, a DOG!", "cat dog"), ("an-other 'thing'", "another thing"), ("a", ""),
                                          ("theatre", "theatre"), ("U.S.A.", "usa")])
def test_answers_are_normalised_as_squads_script_does(text, wanted):
    assert metrics.normalise_answer(text) == wanted


def test_an_answers_f1_is_over_words_and_the_best_right_one_counts():
    assert metrics.answer_f1(["Norman conquest of England"], "the Norman conquest") == pytest.approx(2 * 2 / (4 + 2))
    assert metrics.answer_f1(["nothing", "the conquest"], "conquest") == 1.0
    assert metrics.exact_match(["nothing", "The conquest."], "conquest") == 1.0
    assert metrics.answer_f1(["red red blue"], "red red red") == pytest.approx(2 * 2 / 6)
    assert metrics.answer_f1(["red"], "") == 0.0 and metrics.answer_f1(["a"], "") == 1.0


def test_chinese_answers_are_measured_by_characters():
    assert metrics.exact_match(["八十元"], "八十元。", "zh") == 1.0
    assert metrics.answer_f1(["在绍兴的仓桥直街"], "绍兴", "zh") == pytest.approx(2 * 2 / (8 + 2))


def test_questions_without_an_answer_are_right_when_left_unanswered():
    found = metrics.score("span", [["red"], [], []], ["red car", "", "blue"])
    assert found == {"exact_match": pytest.approx(1 / 3), "f1": pytest.approx((2 / 3 + 1 + 0) / 3), "has_answer_f1": pytest.approx(2 / 3),
                     "no_answer_accuracy": 0.5}
    assert set(metrics.score("span", [["red"]], ["red"])) == {"exact_match", "f1"}


@given(st.lists(st.tuples(st.sampled_from([[], ["red"], ["red car"]]), st.sampled_from(["red", "car", "blue"]), st.integers(-3, 3)),
                min_size=1, max_size=12))
@settings(deadline=None)
def test_the_best_threshold_is_the_best_of_all_thresholds(rows):
    truth, answered, scores = [list(side) for side in zip(*rows, strict=True)]

    def f1(threshold):
        given = [answer if score <= threshold else "" for answer, score in zip(answered, scores, strict=True)]
        return metrics.score("span", truth, given)["f1"]

    threshold, best = metrics.best_threshold(truth, answered, scores)
    assert best == pytest.approx(f1(threshold)) == pytest.approx(max(f1(candidate) for candidate in range(-4, 4)))


def test_rouge_is_that_of_its_papers_example():
    # Lin 2004, section 3.1: against "police killed the gunman" (their beta = 1).
    said = metrics.score("chat", ["police killed the gunman"], ["police kill the gunman"], ["rouge_l", "rouge_2", "rouge_1"])
    assert said == {"rouge_l": 0.75, "rouge_2": pytest.approx(1 / 3), "rouge_1": 0.75}
    assert metrics.score("chat", ["police killed the gunman"], ["the gunman kill police"], ["rouge_l"]) == {"rouge_l": 0.5}
    assert metrics.score("chat", ["枪手被警察击毙"], ["警察击毙枪手"], ["rouge_1"], ["zh"])["rouge_1"] == pytest.approx(2 * 6 / 13)


def test_bleu_is_precision_times_the_brevity_penalty():
    found = metrics.score("chat", ["one two three four five six"], ["one two three four five"], ["bleu"])
    assert found["bleu"] == pytest.approx(math.exp(1 - 6 / 5))  # Papineni et al. 2002, section 2.3: every n-gram is right
    assert metrics.score("chat", ["我们在上海开会"], ["我们在上海开"], ["bleu"], ["zh"])["bleu"] == pytest.approx(math.exp(1 - 7 / 6))


def test_bleu_takes_several_references_together_and_languages_apart():
    both = ["one two three four", "five six seven eight"]
    assert metrics.score("chat", [both], [both[1]], ["bleu"])["bleu"] == pytest.approx(1)
    mixed = metrics.score("chat", [both[0], both[1], "我们在上海开会"], [both[0], both[1], "好"], ["bleu"], ["en", "en", "zh"])
    assert mixed["bleu"] == pytest.approx(2 / 3, abs=1e-3)
    uneven = metrics.score("chat", [both, both[0]], [both[1], both[0]], ["bleu", "chrf"])
    assert uneven == {"bleu": pytest.approx(1), "chrf": pytest.approx(1)}


def test_meteor_sees_equal_words_and_stems():
    # Precision 1, recall 3/6, one chunk of three; NLTK's parameters 0.9, 3, 0.5 (Banerjee and Lavie 2005, section 2.2, in its later form).
    mean = 1 * 0.5 / (0.9 * 1 + 0.1 * 0.5)
    found = metrics.score("chat", ["the cat sat on a mat"], ["the cat sat"], ["meteor"])["meteor"]
    assert found == pytest.approx(mean * (1 - 0.5 * (1 / 3) ** 3))
    assert metrics.score("chat", ["the cat"], ["the cats"], ["meteor"])["meteor"] == pytest.approx(1 - 0.5 * (1 / 2) ** 3)
    assert metrics.score("chat", ["a car"], [""], ["meteor"])["meteor"] == 0.0


def test_written_answers_are_measured_as_extracted_ones_are():
    found = metrics.score("chat", ["the red car", "八十元"], ["Red car.", "八十元。"], ["exact_match", "f1"], ["en", "zh"])
    assert found == {"exact_match": 1.0, "f1": 1.0}


def test_a_right_candidates_rank_decides_retrieval():
    candidates = np.eye(4)
    queries = np.array([[9.0, 1, 0, 0], [2, 3, 1, 0], [1, 2, 3, 4]])
    found = metrics.retrieval(queries, candidates, [0, 2, [0, 2]], cutoffs=(1, 2, 3))
    assert found == {"recall_at_1": pytest.approx(1 / 3), "recall_at_2": pytest.approx(2 / 3), "recall_at_3": 1.0,
                     "mean_reciprocal_rank": pytest.approx((1 + 1 / 3 + 1 / 2) / 3)}


def test_a_tie_counts_against_the_right_candidate():
    same = np.ones((3, 5))
    assert metrics.retrieval(same, same, [0, 1, 2])["recall_at_1"] == 0.0
    assert metrics.retrieval(np.zeros((1, 5)), same, [0])["mean_reciprocal_rank"] == pytest.approx(1 / 3)
    with pytest.raises(LabError, match="query 0 has no right candidate"):
        metrics.retrieval(same[:1], same, [[]])


def test_sentence_similarity_is_the_order_of_the_cosines():
    first, second = np.array([[1.0, 0], [1, 0], [1, 0]]), np.array([[5.0, 0], [1, 1], [0, 2]])  # cosines 1, 0.71, 0
    assert metrics.similarity(first, second, [5, 4, 1])["spearman"] == pytest.approx(1)
    assert metrics.similarity(first, second, [1, 4, 5])["spearman"] == pytest.approx(-1)


@pytest.mark.parametrize("task, truth, predicted, names, why", [
    ("guess", [1], [1], [], "no measures for task 'guess'"), ("classify", [1], [1], ["bleu"], "no metric bleu"),
    ("classify", [1], [1, 2], [], "2 predictions do not match 1 rows"), ("classify", [], [], [], "no rows"),
    ("tag", [["O"]], [["O", "O"]], [], "sentence 0 has 1 true and 2 predicted tags"),
])
def test_what_cannot_be_measured_is_said(task, truth, predicted, names, why):
    with pytest.raises(LabError, match=why):
        metrics.score(task, truth, predicted, names)


@given(st.text(st.sampled_from(string.ascii_letters + " .,'"), max_size=30))
def test_an_answer_always_equals_itself(text):
    assert metrics.exact_match([text], text) == metrics.answer_f1([text], text) == 1.0


def test_all_values_are_plain_numbers_that_json_takes():
    import json

    rows = {"classify": ([0, 1], [0, 0]), "multi_label": ([[0], [1]], [[0], []]), "regress": ([1.0, 2.0], [2.0, 1.0]),
            "tag": ([["B-X"]], [["O"]]), "span": ([["a b"], []], ["b", ""]), "chat": (["b"], ["c"])}
    for task, (truth, predicted) in rows.items():
        found = metrics.score(task, truth, predicted)
        assert set(found) == set(metrics.METRICS[task])
        assert json.loads(json.dumps(found, allow_nan=False)) == found
