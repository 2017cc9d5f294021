"""What a step sees of an example: how often a token is left out, and that the objective stays the same on average."""

import pytest

from labkit.training import views
from labkit.training.examples import Example
from labkit.training.recipe import Recipe

# 4 tokens of a template, 10 that were said, 2 of a template, then the answer: a title, 2 of a label, a text of 5
EXAMPLE = Example(tuple(range(24)), 16, 0, frozenset({1, 2}), frozenset(range(4, 14)))
DRAWS = 2000


def drawn(**changes):
    recipe = Recipe(scenario="small", **changes)
    return [views.drawn(EXAMPLE, recipe, step, 3) for step in range(DRAWS)]


def test_the_whole_view_has_every_token_once():
    view = views.whole(EXAMPLE)
    assert view.kept == list(range(24)) and view.predicted == list(range(16, 24))
    assert view.weights == view.plain == [1.0] * 8 and view.weight == 8


def test_only_what_was_said_is_left_out_and_as_often_as_asked():
    found = drawn(token_drop=0.3, text_share=1.0)
    there = sum(len(set(view.kept) & EXAMPLE.spoken) for view in found) / (DRAWS * 10)
    assert there == pytest.approx(0.7, abs=0.02)
    assert all(set(range(24)) - EXAMPLE.spoken <= set(view.kept) for view in found)
    assert all(view.predicted == list(range(16, 24)) for view in found)


def test_texts_are_learned_at_their_share_of_visits_and_else_not_run():
    found = drawn(token_drop=0.0, text_share=0.25)
    with_text = [view for view in found if len(view.predicted) == 8]
    assert len(with_text) / DRAWS == pytest.approx(0.25, abs=0.03)
    for view in found:
        if view not in with_text:
            assert view.predicted == [16, 17, 18] and view.kept == list(range(19))
            assert view.weights == [1.0, 10.0, 10.0] and view.plain == [1.0, 1.0, 1.0]
    assert with_text[0].weights == [1.0, 10.0, 10.0, 4.0, 4.0, 4.0, 4.0, 4.0]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_the_objective_is_the_same_on_average(share):
    found = drawn(token_drop=0.0, text_share=share)
    assert {view.weight for view in found} == {2 * 10.0 + 6}
    assert sum(sum(view.weights) for view in found) / DRAWS == pytest.approx(26, rel=0.06)
    by_place = [sum(weight for view in found for place, weight in zip(view.predicted, view.weights, strict=True) if place == wanted) / DRAWS
                for wanted in range(16, 24)]
    assert by_place == pytest.approx([1, 10, 10, 1, 1, 1, 1, 1], rel=0.15)


def test_a_text_before_a_label_is_always_learned():
    before = Example(EXAMPLE.tokens, 16, 0, frozenset({7}), EXAMPLE.spoken)
    recipe = Recipe(scenario="small", text_share=0.1)
    assert all(views.drawn(before, recipe, step, 0).weights == [1.0] * 7 + [10.0] for step in range(50))


def test_an_answer_without_labels_is_always_whole():
    plain = Example(EXAMPLE.tokens, 16, 0, frozenset(), EXAMPLE.spoken)
    recipe = Recipe(scenario="small", text_share=0.1)
    assert all(views.drawn(plain, recipe, step, 0).weights == [1.0] * 8 for step in range(50))


def test_the_same_seed_draws_the_same_and_rows_differ():
    recipe, other = Recipe(scenario="small", text_share=0.5), Recipe(scenario="small", text_share=0.5, seed=1)
    assert views.drawn(EXAMPLE, recipe, 5, 2) == views.drawn(EXAMPLE, recipe, 5, 2)
    assert any(views.drawn(EXAMPLE, recipe, step, 2) != views.drawn(EXAMPLE, recipe, step, 4) for step in range(5))
    assert any(views.drawn(EXAMPLE, recipe, step, 2) != views.drawn(EXAMPLE, other, step, 2) for step in range(5))
