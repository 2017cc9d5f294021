"""A plan is read, checked and written; a mistake in it is named with file and entry."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.data import plan, steps
from labkit.errors import LabError


def test_the_default_plan_has_the_steps_in_an_order_that_works():
    names = plan.default().names
    assert names[:7] == ["mojibake", "unicode_form", "control_characters", "markup", "boilerplate", "repeated_lines", "spaces"]
    assert names[-5:] == ["exact_duplicates", "protect", "near_duplicates", "split", "leaks"]
    assert set(names) == set(steps.every()) - {"semantic_duplicates"}  # that one needs an encoder


def test_every_step_has_titles_in_both_languages_and_says_what_it_does():
    for step in steps.every().values():
        assert step.title["en"] and step.title["zh"] and step.title["en"] != step.title["zh"] and step.about.endswith(".")


def test_a_plan_is_written_and_read_again(tmp_path):
    mine = plan.Plan((plan.Use("spaces"), plan.Use("length", {"min_characters": 5}), plan.Use("prompt_injection", {"action": "flag"})))
    plan.write(mine, tmp_path / "plan.toml")
    assert plan.read(tmp_path / "plan.toml") == mine
    plan.write(plan.default(), tmp_path / "default.toml")
    assert plan.read(tmp_path / "default.toml") == plan.default()


@pytest.mark.parametrize(("toml", "says"), [
    ('[[step]]\nuse = "lenght"', "step 1: no step 'lenght'; there are: mojibake"),
    ('[[step]]\nuse = "spaces"\n[[step]]\nuse = "length"\nminimum = 3', "step 2: step length: no parameter 'minimum'"),
    ('[[step]]\nuse = "length"\nmin_characters = "three"', "step 1: step length: min_characters must be like 3, not 'three'"),
    ('[[step]]\nuse = "length"\nmin_characters = true', "must be like 3, not True"),
    ('[[step]]\nmin_characters = 3', "step 1: use = \"NAME\" is needed"),
    ('step = 3', "at least one"), ("", "at least one"), ('[step]\nuse = "length"', "at least one"),
    ('step = ["length"]', "step 1: use = \"NAME\""),
    ('[[steps]]\nuse = "length"', "steps is not known here"),
    ('[[step]\nuse', "is not valid TOML"),
])
def test_a_mistake_is_named_with_file_and_entry(tmp_path, toml, says):
    path = tmp_path / "mine.toml"
    path.write_text(toml, encoding="utf-8")
    with pytest.raises(LabError) as caught:
        plan.read(path)
    assert str(path) in str(caught.value) and says in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(LabError, match="none.toml does not exist"):
        plan.read(tmp_path / "none.toml")
    with pytest.raises(LabError, match="cannot be read"):
        plan.read(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'# \xe9\n[[step]]\nuse = "length"')
    with pytest.raises(LabError, match="is not valid TOML"):
        plan.read(tmp_path / "latin.toml")


def test_the_fingerprint_follows_what_is_done_and_not_how_it_is_written():
    bare, spelt = plan.of("spaces", "length"), plan.of("spaces", "length").with_parameters("length", min_characters=3)
    assert bare.fingerprint() == spelt.fingerprint() and len(bare.fingerprint()) == 64
    others = [plan.of("length", "spaces"), plan.of("spaces"), bare.with_parameters("length", min_characters=4)]
    assert len({each.fingerprint() for each in (bare, *others)}) == 4


def test_a_plan_is_changed_by_taking_steps_out_and_setting_parameters():
    assert plan.of("spaces", "length", "markup").without("length").names == ["spaces", "markup"]
    assert plan.of("length").with_parameters("length", max_characters=9).uses[0].parameters == {"max_characters": 9}
    with pytest.raises(LabError, match="the plan has no step 'split'; it has spaces"):
        plan.of("spaces").without("split")
    with pytest.raises(LabError, match="no parameter 'most'"):
        plan.of("length").with_parameters("length", most=9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["length", "spaces", "repetition"]), st.integers(1, 50)), min_size=1, max_size=6))
def test_any_plan_survives_being_written(tmp_path_factory, entries):
    parameter = {"length": "min_characters", "repetition": "min_units"}
    mine = plan.Plan(tuple(plan.Use(name, {parameter[name]: number} if name in parameter else {}) for name, number in entries))
    path = tmp_path_factory.mktemp("plans") / "plan.toml"
    plan.write(mine, path)
    assert plan.read(path) == mine and plan.read(path).fingerprint() == mine.fingerprint()
