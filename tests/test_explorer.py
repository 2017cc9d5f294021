"""The explorer of prepared records: filters, what each step did, and corrections that can be saved and made again."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from labkit import records
from labkit.data import corrections, pipeline, plan
from labkit.errors import LabError
from labkit.widgets.explorer import Explorer

ATTACK = "<img src=x onerror=alert(1)>"


def record(scenario, number, text, language="en", file="mails.csv"):
    answer = {"kind": "pear" if number % 2 else "apple", "weight": 10.0 + number, "note": f"note {number}"}
    return records.make(scenario.name, language, [{"role": "user", "content": text}], answer, source=file, license="CC0-1.0",
                        meta={"row": number + 2})


@pytest.fixture
def collected(small_scenario):
    """0 to 11 English, 12 to 17 Chinese, 18 an attack, 19 too short, 20 a copy of 0, 21 with markup; two rejected rows."""
    rows = [record(small_scenario, number, f"Fruit {number} is {chr(97 + number) * 20} and round") for number in range(12)]
    rows += [record(small_scenario, number, f"第{number}个水果" + chr(0x5000 + number) * 12, "zh", "问题.csv") for number in range(12, 18)]
    rows += [record(small_scenario, 18, f"a < b {ATTACK} costs $5 and $6"), record(small_scenario, 19, "x"),
             record(small_scenario, 20, rows[0]["messages"][0]["content"]), record(small_scenario, 21, "<p>an apple pie of mine</p>")]
    rejects = [{"file": "mails.csv", "row": 90 + number, "problem": f"not JSON: {ATTACK}", "values": {"raw": f"{ATTACK} broken"}}
               for number in range(2)]
    return SimpleNamespace(records=records.from_list(rows), scenario=small_scenario, rejects=rejects,
                           rows_read={**Counter(row["source"] for row in rows), "mails.csv": 18})


@pytest.fixture
def steps_of_plan():
    return plan.of("markup", "spaces", "length", "exact_duplicates", "split")


@pytest.fixture
def prepared(collected, steps_of_plan):
    return pipeline.run(collected.records, collected.scenario, steps_of_plan)


@pytest.fixture
def explorer(collected, prepared, steps_of_plan):
    return Explorer(collected, prepared, collected.scenario, steps_of_plan, page_size=5)


def rows_shown(explorer):
    return [button.description for button in explorer.row_buttons if button.description]


def test_all_rows_are_there_in_pages(explorer):
    assert len(explorer.found) == 24 and rows_shown(explorer) == ["1", "2", "3", "4", "5"]
    assert "24 of 24 rows, page 1 of 5" in explorer.status.value and explorer.before_button.disabled
    for _ in range(4):
        explorer.next_button.click()
    assert rows_shown(explorer) == ["21", "22", "23", "24"] and explorer.next_button.disabled
    explorer.before_button.click()
    assert rows_shown(explorer) == ["16", "17", "18", "19", "20"]


def test_filters_narrow_what_is_shown_together(explorer):
    explorer.filters["language"].value = "zh"
    assert explorer.found.tolist() == list(range(12, 18))
    explorer.filters["label"].value = ("kind", "pear")
    assert explorer.found.tolist() == [13, 15, 17]
    explorer.filters["source"].value = "mails.csv"
    assert explorer.found.tolist() == [] and "Nothing fits" in explorer.status.value


@pytest.mark.parametrize(("state", "items"), [
    (("dropped",), [19, 20]), (("dropped", "length", "too_short"), [19]), (("rejected",), [22, 23]), (("changed",), []),
])
def test_the_state_can_be_filtered_down_to_a_step_and_its_reason(explorer, state, items):
    assert state in [value for _, value in explorer.filters["state"].options]
    explorer.filters["state"].value = state
    assert explorer.found.tolist() == items


@pytest.mark.parametrize(("part", "items"), [
    ("FRUIT 3 ", [3]), ("水果", list(range(12, 18))), ("broken", [22, 23]),
    ("<p>", [21]), ("note 11", [11]), ('"', []), ("weight", []), ("a.c", []),
])
def test_a_search_finds_texts_as_they_were_read_and_as_they_are(explorer, part, items):
    explorer.search.value = part
    assert explorer.found.tolist() == items


def test_each_split_is_a_filter(explorer, prepared):
    for split in set(prepared.records["split"]):
        explorer.filters["split"].value = split
        expected = [prepared.positions[row] for row, value in enumerate(prepared.records["split"]) if value == split]
        assert explorer.found.tolist() == expected


def test_the_detail_shows_what_each_step_did(explorer):
    explorer.row_buttons[0].click()
    assert "No step changed it." in explorer.detail.value
    explorer.choose(21)
    assert "<del>&lt;p&gt;</del>" in explorer.detail.value and "markup" in explorer.detail.value
    explorer.choose(19)
    assert "Dropped here: too short" in explorer.detail.value
    explorer.choose(20)
    assert "Exact duplicates" in explorer.detail.value and "What it repeats</h4><small>mails.csv, row 2</small>" in explorer.detail.value


def test_nothing_of_the_data_is_html(explorer):
    for item in range(24):
        explorer.choose(item)
        assert "<img" not in explorer.detail.value
    explorer.search.value = ATTACK
    assert len(explorer.found) == 3
    assert not any("<img" in text.value for text in explorer.row_texts)


def test_a_drop_is_undone_and_dropped_again(explorer, prepared, steps_of_plan):
    explorer.choose(19)
    assert explorer.undo_button.layout.display is None and explorer.drop_button.layout.display == "none"
    explorer.undo_button.click()
    kept = explorer.records()
    assert len(kept) == len(prepared.records) + 1 and kept[19]["messages"][0]["content"] == "x" and kept[19]["split"] == "train"
    assert explorer.changes() == [{"position": 19, "id": explorer.corrections.given[19]["id"], "action": "keep", "split": "train"}]
    assert "duplicates and leaks" in explorer.message.value
    explorer.filters["state"].value = ("changed",)
    assert explorer.found.tolist() == [19]
    explorer.drop_button.click()
    assert explorer.changes() == [] and explorer.records()["id"] == prepared.records["id"]


def test_a_record_is_dropped_and_taken_back(explorer, prepared):
    explorer.choose(3)
    explorer.drop_button.click()
    assert len(explorer.records()) == len(prepared.records) - 1 and prepared.records[3]["id"] not in explorer.records()["id"]
    assert explorer.back_button.layout.display is None
    explorer.back_button.click()
    assert explorer.changes() == [] and len(explorer.records()) == len(prepared.records)


def test_an_edit_gives_a_record_with_an_id_of_its_own_in_its_place(explorer, prepared, collected):
    explorer.choose(4)
    explorer.message_inputs[0][1].value = "A better text"
    explorer.answer_inputs["kind"].value = "pear"
    explorer.answer_inputs["weight"].value = "12.25"
    explorer.answer_inputs["note"].value = ""
    explorer.split_input.value = "test"
    explorer.save_button.click()
    edited = explorer.records()[4]
    assert edited["messages"] == [{"role": "user", "content": "A better text"}]
    assert edited["answer"] == {"kind": "pear", "weight": 12.2} and edited["split"] == "test"
    assert edited["id"] == records.content_id(edited) != prepared.records[4]["id"]
    assert [row["id"] for row in explorer.records()][:4] == prepared.records["id"][:4]
    explorer.search.value = "better"
    assert explorer.found.tolist() == [4]
    assert records.check(edited, collected.scenario) == edited


@pytest.mark.parametrize(("language", "says"), [("en", "outside 0 to 500"), ("zh", "outside 0 to 500")])
def test_an_edit_that_is_no_record_is_refused_in_words(collected, prepared, steps_of_plan, language, says):
    explorer = Explorer(collected, prepared, collected.scenario, steps_of_plan, language=language)
    explorer.choose(4)
    explorer.answer_inputs["weight"].value = "900"
    explorer.save_button.click()
    assert says in explorer.message.value and explorer.changes() == []
    explorer.choose(4)
    explorer.message_inputs[0][1].value = " "
    explorer.save_button.click()
    assert "must not be empty" in explorer.message.value and explorer.changes() == []


def test_a_rejected_row_can_be_looked_at_but_not_changed(explorer):
    explorer.choose(22)
    assert "broken" in explorer.detail.value and "mails.csv, row 90" in explorer.detail.value and explorer.form.children == ()
    explorer.drop_button.click()
    explorer.save_button.click()
    assert explorer.changes() == []


def test_what_a_person_did_can_be_saved_and_done_again(explorer, collected, prepared, steps_of_plan, tmp_path):
    explorer.corrections.keep(20, "test")
    explorer.corrections.drop(2)
    explorer.corrections.edit(13, [{"role": "user", "content": "改过的文本"}], {"kind": "apple"}, "train", "zh")
    explorer.save(tmp_path / "changes.json")
    again = Explorer(collected, prepared, collected.scenario, steps_of_plan)
    assert again.apply(tmp_path / "changes.json") == 3
    assert again.changes() == explorer.changes()
    assert again.records().to_list() == explorer.records().to_list()
    again.filters["state"].value = ("changed",)
    assert again.found.tolist() == [2, 13, 20]


@pytest.mark.parametrize(("change", "says"), [
    ({"position": 2, "id": "0" * 16, "action": "drop"}, "change 1: record 2 is another one here"),
    ({"position": 999, "id": "0" * 16, "action": "drop"}, "change 1: record 999 is another one here"),
    ({"position": True, "id": "0" * 16, "action": "drop"}, "position and action"),
    ({"position": 2, "id": "0" * 16, "action": "explode"}, "position and action"),
    ("nonsense", "position and action"),
])
def test_corrections_of_other_records_are_refused(explorer, tmp_path, change, says):
    path = tmp_path / "changes.json"
    path.write_text(json.dumps({"format": 1, "scenario": "small", "changes": [change]}), encoding="utf-8")
    with pytest.raises(LabError, match=says):
        explorer.apply(path)
    assert explorer.changes() == []


def test_corrections_are_made_all_or_none(explorer, tmp_path):
    good = {"position": 2, "id": explorer.corrections.given[2]["id"], "action": "drop"}
    bad = {"position": 3, "id": explorer.corrections.given[3]["id"], "action": "edit", "messages": [], "answer": {}, "split": "",
           "language": "en"}
    path = tmp_path / "changes.json"
    path.write_text(json.dumps({"format": 1, "scenario": "small", "changes": [good, bad]}), encoding="utf-8")
    with pytest.raises(LabError, match="change 2: messages must be a list"):
        explorer.apply(path)
    assert explorer.changes() == []


@pytest.mark.parametrize("content", ["[]", '{"format": 2}', '{"format": 1, "scenario": "other", "changes": []}'])
def test_a_file_that_holds_no_corrections_of_this_scenario_is_refused(explorer, tmp_path, content):
    (tmp_path / "changes.json").write_text(content, encoding="utf-8")
    with pytest.raises(LabError, match="changes.json"):
        explorer.apply(tmp_path / "changes.json")


def test_records_that_do_not_belong_together_are_refused(collected, prepared, steps_of_plan):
    with pytest.raises(LabError, match="do not belong together"):
        corrections.Corrections(collected.records.select(range(5)), prepared, collected.scenario, steps_of_plan)


def test_the_captions_are_chinese_on_request(collected, prepared, steps_of_plan):
    explorer = Explorer(collected, prepared, collected.scenario, steps_of_plan, language="zh")
    assert explorer.undo_button.description == "撤销丢弃" and "共 24 行" in explorer.status.value
    explorer.choose(19)
    assert "过短" in explorer.detail.value
    with pytest.raises(LabError, match="language"):
        Explorer(collected, prepared, collected.scenario, steps_of_plan, language="fr")


def test_both_languages_have_the_same_captions():
    from labkit.widgets.explorer_captions import CAPTIONS

    assert CAPTIONS["en"].keys() == CAPTIONS["zh"].keys()
