"""Long contexts in windows and back: BERT's procedure for SQuAD, with the embedded encoder's real tokenizer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import models
from labkit.errors import LabError
from labkit.training.tasks import windows
from labkit.training.tasks.windows import Window, Windowed

WORDS = "the river carried unbelievably heavy stones, 1984 of them, past Szczecin’s mill 在城里 and (again) to—the sea".split()


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(models.resolve("minilm-l6").folder)


def row(context, answer=None, start=None, question="What?", identity="q"):
    texts = [] if answer is None else [answer]
    starts = [context.index(text) if start is None else start for text in texts]
    return {"id": identity, "question": question, "context": context, "answers": {"text": texts, "answer_start": starts}}


def sure_of(windowed):
    """Logits of a model that is sure of each window's target."""
    def logits(place):
        return [np.where(np.arange(len(window.tokens)) == place(window), 9.0, 0.0) for window in windowed.windows]

    return logits(lambda window: window.start), logits(lambda window: window.end)


def test_the_windows_and_the_word_with_most_context_are_those_of_berts_own_example(tokenizer):
    # The comment in BERT's run_squad.py: three spans of "the man went to the store and bought a gallon of milk", of which the third,
    # "and bought a gallon of", gives "bought" most context.
    context = "the man went to the store and bought a gallon of milk"
    made = windows.windows([row(context)], tokenizer, max_tokens=9, overlap=2, max_question_tokens=1)
    said = [[context[place[0] : place[1]] for place in window.places if place] for window in made.windows]
    assert said[:3] == ["the man went to the".split(), "to the store and bought".split(), "and bought a gallon of".split()]
    deciding = [number for number, window in enumerate(made.windows) for place, decides in zip(window.places, window.decides, strict=True)
                if decides and context[place[0] : place[1]] == "bought"]
    assert deciding == [2]


@given(st.lists(st.sampled_from(WORDS), min_size=3, max_size=120), st.data())
@settings(max_examples=60, deadline=None)
def test_every_token_is_decided_once_and_a_sure_model_gives_the_answer_back(tokenizer, words, data):
    context = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(len(words), first + 4) - 1))
    start = len(" ".join(words[:first])) + (first > 0)
    answer = " ".join(words[first : last + 1])
    made = windows.windows([row(context, answer, start)], tokenizer, max_tokens=80, overlap=50, max_question_tokens=16)
    whole = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    decided = [place for window in made.windows for place, decides in zip(window.places, window.decides, strict=True) if decides]
    assert sorted(decided) == whole and all(len(window.tokens) <= 80 for window in made.windows)
    if len(tokenizer(answer, add_special_tokens=False)["input_ids"]) <= 25:  # half the overlap: whole where it is decided
        assert made.unheld == []
        assert windows.answers(made, *sure_of(made), max_answer_tokens=60)[0].place == (start, start + len(answer))


def test_a_window_without_the_whole_answer_has_cls_as_its_target(tokenizer):
    context = "one two three four five six seven eight nine ten"
    made = windows.windows([row(context, "two three")], tokenizer, max_tokens=9, overlap=1, max_question_tokens=1)
    assert [window.holds_answer for window in made.windows] == [True, False, False]
    held = made.windows[0]
    assert [context[slice(*held.places[token])] for token in range(held.start, held.end + 1)] == ["two", "three"]
    assert all(window.tokens[window.none] == tokenizer.cls_token_id for window in made.windows)
    assert made.windows[1].start == made.windows[1].end == made.windows[1].none


def test_an_answer_in_no_window_is_counted(tokenizer):
    made = windows.windows([row("one two three four five six seven eight", "four five six", identity="far")], tokenizer, 9, 1, 1)
    assert made.unheld == ["far"] and not any(window.holds_answer for window in made.windows)


def test_an_answer_within_a_token_has_that_token_as_its_target(tokenizer):
    context = "the mills stand"
    made = windows.windows([row(context, "mill")], tokenizer)
    window = made.windows[0]
    assert (window.start, window.end) == (window.end, window.end) and context[slice(*window.places[window.start])] == "mills"


def test_spaces_around_an_answer_do_not_count(tokenizer):
    made = windows.windows([row("in the old town", " old ")], tokenizer)
    assert windows.answers(made, *sure_of(made))[0].text == "old"


def test_a_long_question_is_cut_and_listed(tokenizer):
    rows = [row("a b", question="why " * 100, identity="long"), row("a b", identity="short")]
    made = windows.windows(rows, tokenizer, max_question_tokens=10)
    assert made.cut_questions == ["long"]
    assert sum(token == tokenizer.convert_tokens_to_ids("why") for token in made.windows[0].tokens) == 10


def test_windows_too_small_for_their_overlap_are_refused(tokenizer):
    with pytest.raises(LabError, match="leave 61 for the context .* cannot share 61"):
        windows.windows([row("a")], tokenizer, max_tokens=128, overlap=61, max_question_tokens=64)


def test_a_decoders_tokenizer_without_cls_is_refused():
    from transformers import AutoTokenizer

    with pytest.raises(LabError, match="needs a tokenizer with .CLS."):
        windows.windows([row("a")], AutoTokenizer.from_pretrained(models.resolve().folder))


def test_the_space_before_a_word_is_no_part_of_an_answer():
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<s>": 0, "?": 1, "Ġin": 2, "Ġold": 3, "Ġtown": 4}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True, trim_offsets=False)
    words.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", 0)])
    byte_level = PreTrainedTokenizerFast(tokenizer_object=words, cls_token="<s>", unk_token="?")
    made = windows.windows([row("in old town", "old")], byte_level)
    assert made.windows[0].places[-3:] == ((0, 2), (3, 6), (7, 11))
    found = windows.answers(made, *sure_of(made))[0]
    assert (found.text, found.place) == ("old", (3, 6))


def two_windows():
    """A context of four one-letter tokens behind [CLS], in two windows that share two of them."""
    places = [(0, 1), (2, 3), (4, 5), (6, 7)]
    window = lambda own, decides: Window(0, (101, 1, 2, 3), (0,) * 4, (None, *own), (False, *decides), 0, 0, 0)  # noqa: E731
    return Windowed([window(places[:3], (True, True, False)), window(places[1:], (False, True, True))], ["q"], ["a b c d"], [], [])


def test_the_best_sum_of_start_and_end_wins_over_all_windows():
    starts = [np.array([0.0, 1, 2, 0]), np.array([0.0, 0, 3, 0])]
    ends = [np.array([0.0, 0, 1, 2]), np.array([0.0, 0, 0, 3])]
    found = windows.answers(two_windows(), starts, ends)[0]  # c d: 3 + 3; b c: 2 + 2; a c: 1 + 2
    assert (found.text, found.place, found.score, found.no_answer) == ("c d", (4, 7), 6.0, -6.0)
    assert [text for text, _ in found.best[:2]] == ["c d", "b c"]
    assert found.best[0][1] / found.best[1][1] == pytest.approx(np.exp(2))
    assert sum(share for _, share in found.best) == pytest.approx(1)


def test_a_start_counts_only_where_it_has_most_context():
    starts = [np.array([0.0, 0, 0, 9]), np.array([0.0, 9, 1, 0])]  # both nines lie where another window decides
    ends = [np.zeros(4), np.array([0.0, 0, 1, 0])]
    assert windows.answers(two_windows(), starts, ends)[0].text == "c"


def test_no_answer_wins_where_its_smallest_score_is_above_the_threshold():
    starts = [np.array([5.0, 1, 0, 0]), np.array([2.0, 0, 0, 0])]
    ends = [np.array([5.0, 1, 0, 0]), np.array([2.0, 0, 0, 0])]
    ask = lambda **settings: windows.answers(two_windows(), starts, ends, **settings)[0]  # noqa: E731
    assert ask().no_answer == 4.0 - 2.0  # the smaller of 10 and 4, less 1 + 1
    assert (ask().text, ask().place, ask().best[0][0]) == ("", None, "")
    assert ask(threshold=1.9).text == "" and ask(threshold=2.0).text == "a"
    assert ask(allow_none=False).text == "a" and all(text for text, _ in ask(allow_none=False).best)


def test_an_answer_is_never_longer_than_allowed_nor_turned_round():
    starts, ends = [np.array([0.0, 5, 0, 0])] * 2, [np.array([0.0, 0, 0, 5])] * 2
    assert windows.answers(two_windows(), starts, ends, max_answer_tokens=3)[0].text == "a b c"
    assert windows.answers(two_windows(), starts, ends, max_answer_tokens=2)[0].text == "a"
    turned = windows.answers(two_windows(), [np.array([0.0, 0, 5, 0])] * 2, [np.array([0.0, 5, 0, 0])] * 2)[0]
    assert turned.place[0] < turned.place[1]


def test_a_question_without_any_candidate_is_left_unanswered():
    none = Windowed([Window(0, (101,), (0,), (None,), (False,), 0, 0, 0)], ["q"], [""], [], [])
    for allow in (True, False):
        found = windows.answers(none, [np.zeros(1)], [np.zeros(1)], allow_none=allow)[0]
        assert found.text == "" and found.place is None and found.best == (("", 1.0),) and found.score == found.no_answer == 0.0


def test_predictions_must_be_one_for_each_window():
    with pytest.raises(LabError, match="1 starts and 2 ends do not match 2 windows"):
        windows.answers(two_windows(), [np.zeros(4)], [np.zeros(4)] * 2)
