"""Slips of the pen: the distances are Levenshtein's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.labeling.search import database  # noqa: F401

from argilla_side.search.fuzzy import Vocabulary  # isort: skip


def distance(one, other):
    """The recursive definition."""
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return distance(one[1:], other[1:])
    return 1 + min(distance(one[1:], other), distance(one, other[1:]), distance(one[1:], other[1:]))


WORD = st.text(alphabet="ab退", min_size=1, max_size=5)


@given(word=WORD, others=st.lists(WORD, unique=True, max_size=20), edits=st.integers(1, 2))
def test_exactly_the_words_within_reach_are_near(word, others, edits):
    assert sorted(Vocabulary(others).near(word, edits)) == sorted(other for other in others if distance(word, other) <= edits)


@pytest.mark.parametrize(("word", "edits", "near"), [
    ("refund", 1, ["refund", "refnd", "refunds", "refurd"]), ("kitten", 2, []), ("sitting", 2, ["sitting"]), ("款", 1, ["退"])])
def test_the_nearest_come_first(word, edits, near):
    assert Vocabulary(["refurd", "refunds", "refnd", "refund", "sitting", "退"]).near(word, edits) == near
