"""Words to sub-tokens and back with the embedded encoder's real tokenizer; tags to spans and back, against seqeval."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import models
from labkit.errors import LabError
from labkit.training.tasks import alignment

WORDS = ["the", "Szczecin", "unbelievably", "U.N.", "北", "京", "1984", "’s", "electroencephalograph", ","]
TAGS = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=12)


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(models.resolve("minilm-l6").folder)


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40), min_size=1, max_size=4), st.integers(0, 9), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_word_counts_once_and_its_tag_comes_back(tokenizer, sentences, overlap, all_sub_tokens):
    tags = [[place % 7 for place in range(len(words))] for words in sentences]
    aligned = alignment.align(sentences, tags, tokenizer, max_tokens=14, overlap=overlap, all_sub_tokens=all_sub_tokens)
    assert all(len(window.tokens) <= 14 for window in aligned.windows) and aligned.bare_words == aligned.cut_words == 0
    assert alignment.word_predictions(aligned, [window.labels for window in aligned.windows], outside=-1) == tags
    counted = sum(label != alignment.IGNORED for window in aligned.windows for label in window.labels)
    words = sum(map(len, sentences))
    assert counted == words if not all_sub_tokens else counted >= words


def test_a_words_tag_stands_on_its_first_sub_token_or_on_all(tokenizer):
    pieces = tokenizer.tokenize("Szczecin")
    assert len(pieces) > 1
    first = alignment.align([["in", "Szczecin"]], [[1, 2]], tokenizer, 32).windows[0]
    every = alignment.align([["in", "Szczecin"]], [[1, 2]], tokenizer, 32, all_sub_tokens=True).windows[0]
    assert first.labels == (-100, 1, 2, *[-100] * (len(pieces) - 1), -100)
    assert every.labels == (-100, 1, *[2] * len(pieces), -100)
    assert first.words == (None, 0, *[1] * len(pieces), None)


def test_a_word_counts_in_the_window_with_most_around_it(tokenizer):
    words = "a b c d e f g h".split()
    aligned = alignment.align([words], [list(range(8))], tokenizer, max_tokens=7, overlap=2)  # a-e and d-h
    assert [[word for _, word in window.predicts] for window in aligned.windows] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_words_that_are_cut_off_are_counted_and_predicted_outside(tokenizer):
    words = "a b c d e f g h".split()
    aligned = alignment.align([words, ["a"]], [[3] * 8, [3]], tokenizer, max_tokens=7, cut=True)
    assert aligned.cut_words == 3 and aligned.cut_rows == [0] and len(aligned.windows) == 2
    assert alignment.word_predictions(aligned, [[3] * 7, [3] * 3]) == [[3] * 5 + [0] * 3, [3]]


def test_words_of_which_the_tokenizer_leaves_nothing_are_counted_and_predicted_outside(tokenizer):
    aligned = alignment.align([["a", "\u200b", " ", "b"]], [[1, 2, 3, 4]], tokenizer, 16)
    assert aligned.bare_words == 2 and aligned.cut_words == 0
    assert alignment.word_predictions(aligned, [aligned.windows[0].labels]) == [[1, 0, 0, 4]]


def test_without_tags_nothing_counts_but_all_words_are_predicted(tokenizer):
    window = alignment.align([["in", "Szczecin"]], None, tokenizer, 32).windows[0]
    assert set(window.labels) == {-100} and window.predicts == ((1, 0), (2, 1))


@pytest.mark.parametrize("sentences, tags, settings, why", [
    ([[]], [[]], {}, "sentence 0 has no words"), ([["a"]], [[1, 2]], {}, "1 words and 2 tags"),
    ([["a"]], [[1]], {"max_tokens": 10, "overlap": 8}, "cannot share 8"),
])
def test_what_cannot_be_aligned_is_said(sentences, tags, settings, why, tokenizer):
    with pytest.raises(LabError, match=why):
        alignment.align(sentences, tags, tokenizer, **{"max_tokens": 16, "overlap": 2, **settings})


def test_predictions_must_be_one_for_each_window(tokenizer):
    with pytest.raises(LabError, match="0 predictions do not match 1 windows"):
        alignment.word_predictions(alignment.align([["a"]], None, tokenizer, 16, overlap=2), [])


@settings(deadline=None)
@given(TAGS)
def test_strict_spans_are_seqevals(tags):
    from seqeval.scheme import IOB2, Entities

    theirs = [(entity.tag, entity.start, entity.end) for entity in Entities([tags], IOB2).entities[0]]
    assert alignment.spans(tags) == theirs


@settings(deadline=None)
@given(TAGS)
def test_lenient_spans_are_those_of_conlleval(tags):
    from seqeval.metrics.sequence_labeling import get_entities

    assert alignment.spans(tags, strict=False) == [(kind, first, last + 1) for kind, first, last in get_entities(tags)]


@settings(deadline=None)
@given(TAGS)
def test_tags_come_back_from_spans(tags):
    valid = alignment.tags_of(alignment.spans(tags), len(tags))
    assert alignment.bio_fault(valid) is None and alignment.spans(valid) == alignment.spans(tags)
    if alignment.bio_fault(tags) is None:
        assert valid == tags


@settings(deadline=None)
@given(TAGS)
def test_iob1_says_the_same_spans_as_the_bio_it_becomes(tags):
    if alignment.iob1_fault(tags) is None:
        bio = alignment.iob1_to_bio(tags)
        assert alignment.bio_fault(bio) is None
        assert alignment.spans(bio) == alignment.spans(tags, strict=False)


def test_spans_that_overlap_or_lie_outside_are_refused():
    with pytest.raises(LabError, match="overlaps"):
        alignment.tags_of([("X", 0, 2), ("Y", 1, 3)], 3)
    with pytest.raises(LabError, match="does not lie within 3"):
        alignment.tags_of([("X", 2, 4)], 3)


def test_a_text_becomes_words_and_chinese_characters():
    assert alignment.words_of("OK，我在Berlin花了20.5元！ It's") == [
        "OK", "，", "我", "在", "Berlin", "花", "了", "20", ".", "5", "元", "！", "It", "'", "s"]


def test_labels_are_o_and_then_each_types_two_marks():
    assert alignment.bio_labels({"PER", "LOC"}) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
