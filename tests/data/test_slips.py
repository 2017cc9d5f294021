"""A text with one mistyped word is its twin; another word in its place makes another text."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.data import duplicates, slips


@pytest.mark.parametrize(("one", "other", "near"), [
    ("refund", "refnd", True), ("refund", "reefund", True), ("refund", "refuns", True), ("refund", "reufnd", True),
    ("refund", "refund", False), ("refund", "refnud", True), ("refund", "rfeudn", False), ("typical", "atypical", False),
    ("type1", "type2", False), ("legal", "illegal", False), ("hypertension", "hypotension", False), ("退款", "退货", False),
    ("abcde", "abcxyz", False),
])
def test_what_counts_as_a_slip(one, other, near):
    assert slips.one_slip(one, other) is near and slips.one_slip(other, one) is near


@settings(max_examples=200, deadline=None)
@given(st.text("abc1", min_size=1, max_size=8), st.text("abc1", min_size=1, max_size=8))
def test_a_slip_is_an_edit_distance_of_one(one, other):
    def distance(left, right):  # optimal string alignment, by its recursion
        table = {(i, j): max(i, j) for i in range(len(left) + 1) for j in range(len(right) + 1) if not i or not j}
        for i in range(1, len(left) + 1):
            for j in range(1, len(right) + 1):
                table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (left[i - 1] != right[j - 1]))
                if i > 1 and j > 1 and left[i - 1] == right[j - 2] and left[i - 2] == right[j - 1]:
                    table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
        return table[len(left), len(right)]

    digits = [[each for each in text if each.isdigit()] for text in (one, other)]
    assert slips.one_slip(one, other) == (distance(one, other) == 1 and one[0] == other[0] and digits[0] == digits[1])


@pytest.mark.parametrize(("left", "right", "near"), [
    ("Where is my refund for the lamp?", "where is my refnud for the lamp", True),
    ("Where is my refund?", "Where is my refunds?", True),
    ("I have type2 diabetes now", "I have type1 diabetes now", False),
    ("I lost my card", "I lost by card", False),  # short words are words
    ("please refund my order today", "please refnd my ordr today", False),  # two slips
    ("refund please", "refnud please", False),  # too little around it
    ("Where is my parcel today?", "Where is my refund today?", False),
    ("我的 refund 在哪里 呢", "我的 refnud 在哪里 呢", True),
    ("我要退款 现在 马上", "我要退货 现在 马上", False),
    ("the café refund is late", "the café refnud is late", True),
])
def test_short_texts_that_differ_by_a_slip(left, right, near):
    assert duplicates.near([left, right], threshold=0.95, slips=True).tolist() == ([0, 0] if near else [0, 1])
    assert duplicates.against([left], [right], threshold=0.95, slips=True).tolist() == ([0] if near else [-1])
    assert duplicates.near([left, right], threshold=0.95).tolist() == [0, 1]


def test_links_are_those_of_comparing_all_with_all():
    draw = random.Random(0)
    texts = [f"{draw.choice(['my', 'the'])} {''.join(draw.choices('ab', k=draw.randint(5, 6)))} is {draw.choice(['late', 'broken'])}"
             for _ in range(150)]
    words = [text.split() for text in texts]
    expected = {(one, other) for one in range(len(texts)) for other in range(len(texts)) if words[one] != words[other]
                and all(slips.one_slip(a, b) or a == b for a, b in zip(words[one], words[other], strict=True))
                and sum(a != b for a, b in zip(words[one], words[other], strict=True)) == 1}
    found = {(words_one, words_other) for one, other in zip(*slips.links(texts), strict=True)
             for words_one, words_other in ((texts[one], texts[other]), (texts[other], texts[one]))}
    assert expected
    assert found == {(texts[one], texts[other]) for one, other in expected}


def test_thousands_of_texts_that_differ_in_the_same_word_are_not_compared_all_with_all():
    draw = random.Random(1)
    words = {"".join(draw.choices("abcdefghij", k=7)) for _ in range(5000)}
    calls = 0
    real = slips.one_slip

    def counted(one, other):
        nonlocal calls
        calls += 1
        return real(one, other)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slips, "one_slip", counted)
        slips.links([f"where is my {word} now" for word in sorted(words)])
    assert calls < 50_000
