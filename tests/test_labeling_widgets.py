"""Labelling in the notebook: the form, the file behind it, and the board."""

import asyncio
import json
import re
from datetime import UTC, datetime

import pytest

from labkit import scenarios
from labkit.errors import LabError
from labkit.labeling.annotations import Annotation, ratings
from labkit.labeling.quality import annotators
from labkit.widgets import labeling_journal
from labkit.widgets.labeler import Labeler
from labkit.widgets.labeling_board import Board
from labkit.widgets.labeling_captions import CAPTIONS
from labkit.widgets.labeling_journal import Entry, Journal
from labkit.widgets.labeling_sources import FileSource, progress_of

ATTACK = "<img src=x onerror=alert(1)>"


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def rows(small_records):
    return list(small_records)[:4]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels" / "mine.jsonl"


@pytest.fixture
def labeler(rows, small_scenario, path, clock):
    return Labeler(rows, small_scenario, path, "ann", clock=clock)


def fill(labeler, **values):
    for name, value in values.items():
        labeler.form.inputs[name].value = value


def test_an_answer_is_in_the_file_when_next_returns(labeler, rows, path):
    fill(labeler, kind="pear", weight="12.34", note="  a note ")
    labeler.next_button.click()
    line, = path.read_text(encoding="utf-8").splitlines()
    said = json.loads(line)
    assert said["record"] == rows[0]["id"] and said["status"] == "submitted" and said["annotator"] == "ann"
    assert said["values"] == {"kind": "pear", "weight": 12.3, "note": "a note"}
    assert labeler.record == rows[1] and labeler.left == 3 and labeler.bar.value == 1


def test_the_record_is_shown_as_text_never_as_a_page(rows, small_scenario, path):
    rows[0]["messages"] = [{"role": "user", "content": f"{ATTACK} costs $5"}, {"role": "assistant", "content": ATTACK},
                           {"role": "user", "content": "第二句"}]
    suggested = {rows[0]["id"]: {"note": (ATTACK, 0.5, ATTACK)}}
    labeler = Labeler(rows, small_scenario, path, "ann", suggestions=suggested)
    shown = labeler.conversation.value + labeler.form.inputs["note"].hint.value
    assert "<img" not in shown and shown.count("&lt;img") == 4 and "第二句" in shown


def test_a_suggestion_is_chosen_beforehand_and_marked(rows, small_scenario, path):
    labeler = Labeler(rows, small_scenario, path, "ann", suggestions={rows[0]["id"]: {"kind": ("pear", 0.83, "small/first")}})
    kind = labeler.form.inputs["kind"]
    assert kind.value == "pear" and kind.buttons["pear"].icon == "check" and "✦" in kind.buttons["pear"].description
    assert "✦" not in kind.buttons["apple"].description
    assert "small/first" in kind.hint.value and "83%" in kind.hint.value
    labeler.next()
    assert labeler.annotations()[0].value == "pear"
    assert kind.value is None and "✦" not in kind.buttons["pear"].description and kind.hint.layout.display == "none"


@pytest.mark.parametrize(("values", "says"), [
    ({"weight": "3"}, "“Kind” needs an answer"), ({"kind": "pear", "weight": "heavy"}, "&#x27;heavy&#x27; is not a number"),
    ({"kind": "pear", "weight": "501"}, "a number from 0.0 to 500.0"),
])
def test_what_is_no_answer_is_refused_in_words_and_nothing_is_saved(labeler, rows, path, values, says):
    fill(labeler, **values)
    labeler.next()
    assert says in labeler.message.value and labeler.record == rows[0] and not path.exists()


def test_a_scenario_of_texts_alone_needs_at_least_one_answer(rows, small_scenario, path):
    labeler = Labeler(rows, small_scenario, path, "ann", fields=["note"])
    labeler.next()
    assert "at least one" in labeler.message.value and labeler.left == 4
    fill(labeler, note="yes")
    labeler.next()
    assert labeler.left == 3 and [each.field for each in labeler.annotations()] == ["note"]


def test_labelling_goes_on_where_one_stopped(labeler, rows, small_scenario, path):
    fill(labeler, kind="pear")
    labeler.next()
    labeler.discard()
    again = Labeler(rows, small_scenario, path, "ann")
    assert again.record == rows[2] and again.left == 2 and again.annotations() == labeler.annotations()
    other = Labeler(rows, small_scenario, path, "bob")
    assert other.record == rows[0] and other.left == 4 and other.annotations() == []


def test_skipped_records_come_again_at_the_end(labeler, rows):
    labeler.skip_button.click()
    assert labeler.record == rows[1]
    for row in rows[1:]:
        assert labeler.record == row
        fill(labeler, kind="apple")
        labeler.next()
    assert labeler.record == rows[0] and labeler.left == 1
    labeler.skip()
    assert labeler.record == rows[0]
    fill(labeler, kind="apple")
    labeler.next()
    assert labeler.left == 0 and "All 4 records are done" in labeler.message.value


def test_what_was_begun_is_kept_as_a_draft_and_counts_as_no_answer(labeler, rows, small_scenario, path):
    fill(labeler, note="half a thought")
    labeler.skip()
    assert "draft" in labeler.message.value and labeler.left == 4
    draft, = labeler.annotations()
    assert (draft.status, draft.value) == ("draft", "half a thought") and ratings([draft], "note").records == []
    again = Labeler(rows, small_scenario, path, "ann")
    assert again.record == rows[0] and again.form.inputs["note"].value == "half a thought"


def test_an_answer_is_changed_by_going_back(labeler, rows, path):
    fill(labeler, kind="pear")
    labeler.next()
    labeler.back_button.click()
    assert labeler.record == rows[0] and labeler.form.inputs["kind"].value == "pear" and labeler.back_button.disabled
    fill(labeler, kind="apple")
    labeler.skip()
    assert [(each.value, each.status) for each in labeler.annotations()] == [("apple", "submitted")]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_looking_at_a_record_writes_nothing(labeler, path):
    labeler.skip()
    labeler.skip()
    labeler.back()
    assert not path.exists()


def test_a_discarded_record_has_an_annotation_without_a_value_for_each_field(labeler, rows):
    labeler.discard_button.click()
    assert [(each.record, each.field, each.value, each.status) for each in labeler.annotations()] == [
        (rows[0]["id"], name, None, "discarded") for name in ("kind", "weight", "note")]


def test_the_seconds_are_those_of_the_whole_record_and_go_on_when_one_comes_back(labeler, clock):
    clock.now += 4.0
    labeler.skip()  # 4 s were spent on the first record
    for _ in range(3):
        labeler.skip()
    clock.now += 5.0
    fill(labeler, kind="pear", weight="2", note="n")
    labeler.next()
    assert [each.seconds for each in labeler.annotations()] == [9.0, 9.0, 9.0]
    assert annotators.speed(labeler.annotations())[0].seconds.value == 9.0
    assert "9 s a record" in labeler.status.value


def test_keys_choose_labels_and_move(labeler, rows):
    labeler.press("2")
    assert labeler.form.inputs["kind"].value == "pear"
    labeler.press("2")
    assert labeler.form.inputs["kind"].value is None
    labeler.press("1")
    labeler.press("?")
    labeler.press("Enter")
    assert labeler.record == rows[1] and labeler.annotations()[0].value == "apple"
    labeler.press("ArrowLeft")
    assert labeler.record == rows[0]
    labeler.press("ArrowRight")
    labeler.press("Delete")
    assert labeler.left == 2


def test_what_was_typed_comes_with_the_key(labeler, rows):
    labeler.press("1")
    labeler.keys._handle_custom_msg({"key": "Enter", "place": 1, "text": "红而圆"}, [])
    assert [(each.field, each.value) for each in labeler.annotations()] == [("kind", "apple"), ("note", "红而圆")]
    assert labeler.record == rows[1] and labeler.form.inputs["note"].value is None


@pytest.mark.parametrize("name", scenarios.names())
@pytest.mark.parametrize("language", scenarios.LANGUAGES)
def test_every_scenario_has_a_form_with_a_key_of_its_own_for_each_label(name, language, rows, path):
    scenario = scenarios.load(name)
    labeler = Labeler(rows, scenario, path, "ann", language=language)
    captions = [button.description for field in scenario.label_fields for button in labeler.form.inputs[field.name].buttons.values()]
    titles = [label.title(language) for field in scenario.label_fields for label in field.labels]
    assert [caption.split(" ", 1)[1] for caption in captions] == titles
    keys = [caption.split(" ", 1)[0] for caption in captions]
    assert len(set(keys)) == len(keys) and set(keys) == labeler.form.keys.keys()
    assert labeler.next_button.description == {"en": "Save, next", "zh": "保存并继续"}[language]


def test_many_labels_become_a_list(rows, small_scenario, path):
    wide = small_scenario.narrowed("wide", {"kind": [f"label {number}" for number in range(77)]}, ["kind"])
    labeler = Labeler(rows, wide, path, "ann", suggestions={rows[1]["id"]: {"kind": ("label 70", None, None)}})
    fill(labeler, kind="label 3")
    labeler.next()
    assert labeler.annotations()[0].value == "label 3"
    assert labeler.form.inputs["kind"].value == "label 70" and "the model" in labeler.form.inputs["kind"].hint.value


def test_a_line_that_a_power_cut_left_is_taken_off(labeler, rows, small_scenario, path):
    fill(labeler, kind="pear")
    labeler.next()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"record": "abc", "val')
    assert len(Journal(path).entries()) == 1 and path.read_bytes() != whole  # reading changes nothing: another may be writing
    again = Labeler(rows, small_scenario, path, "ann")
    assert again.left == 3
    fill(again, kind="apple")
    again.next()
    assert path.read_bytes().startswith(whole + b'{"record"') and len(Journal(path).entries()) == 2


def test_a_file_of_somebody_elses_is_refused_and_stays_as_it_is(rows, small_scenario, path):
    path.parent.mkdir()
    path.write_bytes(b'[{"text": "not ours, on one line without an end"}]')
    with pytest.raises(LabError, match="line 1: no entry"):
        Labeler(rows, small_scenario, path, "ann")
    assert path.read_bytes() == b'[{"text": "not ours, on one line without an end"}]'


def test_answers_that_do_not_fit_the_scenario_are_refused_with_file_and_record(rows, small_scenario, path):
    Journal(path).save(Entry(rows[0]["id"], "ann", "submitted", {"kind": "pear", "weight": 900}, datetime.now(UTC)))
    with pytest.raises(LabError, match=f"mine.jsonl, record {rows[0]['id']}: weight: 900 is outside"):
        Labeler(rows, small_scenario, path, "ann")
    assert Labeler(rows, small_scenario, path, "bob").left == 4


def test_fields_may_be_asked_one_after_the_other_in_the_same_file(rows, small_scenario, path):
    first = Labeler(rows, small_scenario, path, "ann", fields=["kind"])
    fill(first, kind="pear")
    first.next()
    second = Labeler(rows, small_scenario, path, "ann", fields=["weight"], needed=["weight"])
    assert second.record == rows[0] and second.left == 4
    fill(second, weight="3")
    second.next()
    assert Journal(path).entry(rows[0]["id"], "ann").values == {"kind": "pear", "weight": 3.0}
    assert second.left == 3 and Labeler(rows, small_scenario, path, "ann", fields=["kind"]).left == 3


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", '{"record": "a", "annotator": "b", "status": "s", "values": {}, '
                                                          '"time": "2026-01-01T00:00:00+00:00"}'])
def test_a_file_that_is_no_labelling_is_refused_with_its_line(rows, small_scenario, tmp_path, line):
    (tmp_path / "other.jsonl").write_text("\n" + line + "\n", encoding="utf-8")
    with pytest.raises(LabError, match="other.jsonl, line 2"):
        Labeler(rows, small_scenario, tmp_path / "other.jsonl", "ann")


def test_a_file_is_read_as_annotations_of_all_annotators(tmp_path):
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    journal = Journal(tmp_path / "all.jsonl")
    journal.save(Entry("r1", "ann", "submitted", {"kind": "梨"}, time, 2.0))
    journal.save(Entry("r1", "bob", "discarded", {}, time))
    journal.save(Entry("r1", "ann", "submitted", {"kind": "apple"}, time, 3.0))
    found = labeling_journal.read(tmp_path / "all.jsonl", ["kind"])
    assert [(each.annotator, each.value, each.seconds, each.time) for each in found] == [
        ("ann", "apple", 3.0, time), ("bob", None, None, time)]
    with pytest.raises(LabError, match="does not exist"):
        labeling_journal.read(tmp_path / "none.jsonl", ["kind"])


@pytest.mark.parametrize(("arguments", "says"), [
    ({"language": "fr"}, "language"), ({"fields": ["colour"]}, "no field 'colour'"), ({"fields": ["note"], "needed": ["kind"]}, "kind"),
    ({"annotator": " "}, "name"), ({"records": []}, "no records"), ({"suggestions": {"r": {"kind": ("plum", 1.0, None)}}}, "record r"),
])
def test_what_cannot_be_asked_is_refused(rows, small_scenario, path, arguments, says):
    given = {"records": rows, "scenario": small_scenario, "path": path, "annotator": "ann", **arguments}
    with pytest.raises(LabError, match=says):
        Labeler(given.pop("records"), given.pop("scenario"), given.pop("path"), given.pop("annotator"), **given)


def test_both_languages_say_the_same_things():
    assert CAPTIONS["en"].keys() == CAPTIONS["zh"].keys()
    fields = lambda text: sorted(part.split("}")[0] for part in text.split("{")[1:])  # noqa: E731
    assert all(fields(CAPTIONS["en"][key]) == fields(CAPTIONS["zh"][key]) for key in CAPTIONS["en"])


class Desk:
    """A source whose answers are given by hand."""

    def __init__(self, said=(), total=4):
        self.said, self.total, self.pushes, self.trouble = list(said), total, 0, None

    def progress(self):
        return progress_of(self.annotations(), self.total)

    def annotations(self):
        if self.trouble:
            raise LabError(self.trouble, "服务器没有应答")
        return list(self.said)

    def push(self):
        self.pushes += 1
        return {"en": "4 records went up.", "zh": "推送了 4 条。"}

    def pull(self):
        if self.trouble:
            raise LabError(self.trouble)
        self.said.append(said("r9", "kind", "cleo", "pear"))
        return "1 new answer"


def said(record, field, annotator, value, status="submitted", seconds=None, minute=0):
    return Annotation(record, field, annotator, value, status, datetime(2026, 1, 1, 0, minute, tzinfo=UTC), seconds)


@pytest.fixture
def desk():
    """ann and bob agree on r1 and r2 and differ on r3; bob has a draft of r4."""
    rows = [said(record, "kind", name, value, seconds=seconds) for name, values, seconds in
            (("ann", "pear apple pear", 4.0), ("bob", "pear apple apple", 8.0))
            for record, value in zip(("r1", "r2", "r3"), values.split(), strict=True)]
    return Desk([*rows, said("r1", "note", "ann", "n", seconds=2.0), said("r4", "kind", "bob", "pear", "draft")])


def cells(text):
    return re.findall(r">([^<>]+)<", text)


def test_the_board_shows_progress_and_agreement(desk, small_scenario):
    board = Board(desk, small_scenario)
    shown = cells(board.body.value)
    assert "3 of 4 records are done" in shown
    place = shown.index("ann")
    assert shown[place:place + 5] == ["ann", "3", "0", "0", "4"]  # three submitted, 4 s each
    place = shown.index("bob")
    assert shown[place:place + 5] == ["bob", "3", "1", "0", "8"]
    assert board.estimates["kind"]["percent"].value == pytest.approx(2 / 3)
    place = shown.index("same answer (share of pairs)")
    assert shown[place + 1] == "0.667" and board.estimates["note"]["similarity"].value is None
    assert "no record has two annotators" in shown


def test_the_board_pushes_pulls_and_says_so(desk, small_scenario):
    board = Board(desk, small_scenario)
    board.push_button.click()
    assert desk.pushes == 1 and board.message.value == "4 records went up."
    board.pull_button.click()
    assert board.message.value == "1 new answer" and "cleo" in board.body.value


def test_trouble_is_said_and_the_last_state_stays(desk, small_scenario):
    board = Board(desk, small_scenario, language="zh")
    desk.trouble = "the server <b>does not answer</b>"
    before = board.body.value
    board.refresh_button.click()
    assert board.message.value == "<b>服务器没有应答</b>" and board.body.value == before
    board.pull_button.click()
    assert "&lt;b&gt;does not answer" in board.message.value
    desk.trouble = None
    board.refresh_button.click()
    assert board.message.value == ""


def test_the_board_says_what_is_next_and_why_and_asks_again_only_for_new_answers(desk, small_scenario, rows):
    asked = []

    def choose(annotations):
        asked.append(len(annotations))
        return [(rows[2]["id"], {"en": "unsure", "zh": "没有把握"}), ("r99", f"by {ATTACK}"), *[("more", "")] * 20]

    board = Board(desk, small_scenario, records=rows, choose=choose, language="zh", most_next=2)
    board.refresh()
    assert asked == [8] and rows[2]["messages"][-1]["content"].strip() in board.body.value and "没有把握" in board.body.value
    assert "<img" not in board.body.value and "r99" in board.body.value and "more" not in board.body.value
    board.pull()
    assert asked == [8, 9]


def test_nothing_that_was_said_is_html(small_scenario):
    board = Board(Desk([said(ATTACK, "note", ATTACK, ATTACK)]), small_scenario)
    assert "<img" not in board.body.value and "&lt;img" in board.body.value


def test_a_board_without_answers_says_so(small_scenario):
    assert "Nobody has answered yet" in Board(Desk(), small_scenario).body.value
    assert "还没有人作答" in Board(Desk(), small_scenario, language="zh").body.value
    with pytest.raises(LabError, match="language"):
        Board(Desk(), small_scenario, language="fr")


def test_the_board_refreshes_by_itself_until_it_is_stopped(desk, small_scenario):
    async def go():
        board = Board(desk, small_scenario)
        board.watch(0.01)
        desk.said.append(said("r4", "kind", "cleo", "pear"))
        for _ in range(500):
            await asyncio.sleep(0.01)
            if "cleo" in board.body.value:
                break
        assert "cleo" in board.body.value
        board.stop()
        desk.said.append(said("r4", "kind", "dora", "pear"))
        await asyncio.sleep(0.1)
        return board.body.value

    assert "dora" not in asyncio.run(go())


def test_a_watch_that_breaks_does_not_look_alive(desk, small_scenario):
    async def go():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        board = Board(desk, small_scenario)
        board.live_button.value = True
        board.stop()
        desk.progress = lambda: 1 / 0
        board.watch(0.01)
        for _ in range(500):
            await asyncio.sleep(0.01)
            if told:
                break
        return board.live_button.value, told

    alive, told = asyncio.run(go())
    assert not alive and isinstance(told[0], ZeroDivisionError)


def test_the_labelers_files_are_a_source_for_the_board(labeler, rows, small_scenario, tmp_path, path):
    fill(labeler, kind="pear")
    labeler.next()
    source = FileSource([path, tmp_path / "not_yet.jsonl"], small_scenario, len(rows))
    board = Board(source, small_scenario, records=rows)
    assert "1 of 4 records are done" in board.body.value
    board.pull()
    assert "1 answered records" in board.message.value
    board.push()
    assert "Nothing to push" in board.message.value
