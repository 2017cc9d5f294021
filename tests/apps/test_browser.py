"""The app in a real browser: side by side, stopped alone, voted blind, in two languages, by keyboard, on a phone, and by two people."""

import re
import time

import pytest

from labkit import models, runs
from labkit.evaluation import votes
from labkit.files import short
from tests.apps.conftest import add_run, ask, is_local, limit, pick, running, wait_idle

pytestmark = [pytest.mark.slow, pytest.mark.alone]

HASHES = re.compile(r"base ([0-9a-f]{8}) · (?:adapter ([0-9a-f]{8})|no adapter)")


@pytest.fixture
def keys(lab, scenario, monkeypatch):
    """Reads the server's runs and votes: adapter hash of each run."""
    monkeypatch.setenv("LABKIT_RUNS", str(lab))
    return {name: runs.find(f"{scenario.name}/{name}").manifest()["adapter"]["sha256"] for name in ("alpha", "beta")}


def compare_two(page, one, other):
    pick(page, "#checkpoint-1", one)
    pick(page, "#checkpoint-2", other)
    page.wait_for_function("""([one, other]) => document.querySelector('#checkpoint-1 input').value.includes(one)
                              && document.querySelector('#checkpoint-2 input').value.includes(other)""", arg=[one, other])


def said(page, side):
    return page.inner_text(f"#pane-{side} .said")


def hashes(page, side):
    return HASHES.search(page.inner_text(f"#pane-{side} .measures")).groups()


def test_two_checkpoints_answer_side_by_side_and_one_is_stopped_alone(server, visit, keys):
    page = visit(f"{server}/compare")
    compare_two(page, "alpha", "beta")
    limit(page, 16)
    ask(page, "Are you there?")  # both engines are loaded after this
    page.wait_for_selector("#vote-A:not([disabled])")
    limit(page, 160)
    ask(page, "Where is my parcel?")
    page.wait_for_selector("#pane-A .state.answering")
    page.wait_for_function("['A', 'B'].every(side => document.querySelector(`#pane-${side} .said`)?.textContent.length > 5)")
    page.click("#stop-A")
    page.wait_for_selector("#pane-A .state.stopped")
    stopped = said(page, "A")
    assert page.locator("#pane-B .state.answering").count() == 1
    length = len(said(page, "B"))
    page.wait_for_function("length => document.querySelector('#pane-B .said').textContent.length > length", arg=length)
    page.wait_for_selector("#pane-B .state.ended")
    assert said(page, "A") == stopped and said(page, "B") not in ("", stopped)
    base = short(models.resolve().sha256)
    assert hashes(page, "A") == (base, short(keys["alpha"])) and hashes(page, "B") == (base, short(keys["beta"]))
    assert re.search(r"\d+ tokens/s · first token after \d+\.\d\d s", page.inner_text("#pane-B .measures"))
    assert page.locator("#pane-B table.fields tr").count() == page.locator("#pane-A table.fields tr").count() > 0
    assert page.problems == []


def test_the_base_can_be_compared_blind_again_and_again(server, visit):
    page = visit(f"{server}/compare")
    compare_two(page, "base", "alpha")
    limit(page, 16)
    page.check("#blind input")
    for _ in range(2):
        ask(page, "Who?")
        page.wait_for_selector("#checkpoint-1", state="hidden")
        page.wait_for_selector("#vote-tie:not([disabled])")
        page.click("#vote-tie")
        page.wait_for_selector("#checkpoint-1")
        names = [page.input_value(f"#checkpoint-{number} input") for number in (1, 2)]
        assert names == [f"base model · {models.DEFAULT}", "fine-tuned · alpha"]


def test_a_vote_is_kept_once_and_counted(server, visit, keys, scenario):
    page = visit(f"{server}/compare")
    compare_two(page, "base", "alpha")
    assert page.is_disabled("#vote-A")
    ask(page, "How do I pay?")
    page.wait_for_selector("#stop:not([disabled])")
    assert page.is_disabled("#vote-A")
    page.wait_for_selector("#vote-A:not([disabled])")
    page.fill("#reason input, #reason textarea", "clearer")
    page.click("#vote-A")
    page.wait_for_selector("#vote-state:has-text('Kept as vote')")
    page.wait_for_selector("#vote-B[disabled]")
    row = votes.all_votes(scenario.name)[-1]
    assert (row["choice"], row["reason"], row["blind"], row["messages"][-1]["content"]) == ("A", "clearer", False, "How do I pay?")
    assert [(each["run"], each["adapter"]) for each in row["candidates"]] == [("base", None), (f"{scenario.name}/alpha", keys["alpha"])]
    assert [each["answer"] for each in row["candidates"]][0].strip() == said(page, "A").strip()
    page.wait_for_selector("#tally tr:has-text('alpha'):has-text('base model')")


def test_blind_nothing_names_the_checkpoints_until_the_vote(server, visit, keys, scenario):
    page = visit(f"{server}/compare")
    compare_two(page, "alpha", "beta")
    limit(page, 64)
    page.check("#blind input")
    page.wait_for_selector("details.card", state="hidden")
    ask(page, "Is it blue?")
    page.wait_for_selector("#pane-A .state.answering, #pane-A .state.ended")
    while True:
        ended = page.is_enabled("#vote-A")
        shown = page.evaluate("""document.body.innerText
            + [...document.querySelectorAll('input')].filter(each => each.checkVisibility()).map(each => each.value)""")
        for secret in ("alpha", "beta", "fine-tuned", "tokens/s", short(keys["alpha"]), short(keys["beta"])):
            assert secret not in shown
        if ended:
            break
        time.sleep(0.2)
    answers = [said(page, "A"), said(page, "B")]
    page.click("#vote-B")
    page.wait_for_selector("#vote-state:has-text('Kept as vote')")
    row = votes.all_votes(scenario.name)[-1]
    assert (row["choice"], row["blind"]) == ("B", True)
    for side, answer, kept in zip("AB", answers, row["candidates"], strict=True):
        name = kept["run"].split("/")[1]
        page.wait_for_selector(f"#pane-{side} h2:has-text('{name}')")
        assert hashes(page, side)[1] == short(keys[name]) == short(kept["adapter"])
        assert kept["answer"].split() == answer.split()
    assert [page.input_value(f"#checkpoint-{number} input") for number in (1, 2)] == ["fine-tuned · alpha", "fine-tuned · beta"]


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_no_page_asks_anything_of_another_address(server, visit, locale):
    for path in ("/", "/compare"):
        page = visit(f"{server}{path}", locale)
        ask(page, "?")
        page.wait_for_selector(".state.ended, .state.answering")
        page.click("#clear")
        assert len(page.asked) > 20
        assert [url for url in page.asked if not is_local(url)] == []
        assert page.problems == []


@pytest.mark.parametrize("path", ["/", "/compare"])
def test_the_chinese_pages_have_no_english_left(server, visit, scenario, path):
    page = visit(f"{server}{path}", "zh-CN")
    limit(page, 32)
    ask(page, "在吗？")
    wait_idle(page)
    page.click("#again")
    page.wait_for_selector("#alert .alert")
    wait_idle(page)
    for fold in ("#system > button", "details.card summary >> nth=0"):
        page.click(fold)
    shown = page.evaluate("""() => {
        const seen = [...document.querySelectorAll('*')].filter(each => each.checkVisibility());
        const texts = seen.flatMap(each => ['aria-label', 'title', 'placeholder', 'alt'].map(name => each.getAttribute(name) || ''));
        document.querySelectorAll('.said, table.fields td, code, svg title').forEach(each => each.textContent = '');
        return [document.body.innerText, ...texts].join('\\n');
    }""")
    names = ("labkit", "English", models.DEFAULT, "alpha", "beta", "llama.cpp", "Top-p", "Top-k", "Enter", "Shift", "Wilson", "ROUGE-L")
    for name in names:
        shown = shown.replace(name, "")
    assert re.findall("[A-Za-z]{2,}", shown) == []
    assert scenario.title["zh"] in page.input_value("#scenario input") and scenario.notice["zh"] in shown
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.click("[data-labkit=language]")
    page.wait_for_selector("#send:has-text('Send'), #send:has-text('Ask all')")
    page.wait_for_function("title => document.querySelector('#scenario input').value === title", arg=scenario.title["en"])
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("path", ["/", "/compare"])
def test_a_narrow_window_scrolls_down_only(server, visit, path):
    page = visit(f"{server}{path}", size=(390, 844))
    limit(page, 32)
    ask(page, "x" * 300)
    wait_idle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [page.locator(each).bounding_box() for each in ("#question", "#send", "#clear")]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)


def test_the_colours_can_be_changed_and_are_kept(server, visit):
    page = visit(f"{server}/?__theme=light")
    page.click("[data-labkit=theme]")
    assert page.evaluate("document.body.classList.contains('dark')")
    page.click("nav >> text=Compare")
    page.wait_for_selector("#checkpoint-1")
    assert page.evaluate("document.body.classList.contains('dark')")


def test_a_question_is_asked_and_stopped_with_the_keyboard_alone(server, visit):
    page = visit(server)
    pick(page, "#checkpoint", "alpha")
    page.wait_for_function("document.querySelector('#checkpoint input').value.includes('alpha')")
    page.focus("#scenario input")
    for _ in range(4):  # checkpoint, refresh, question; a folded card may lie between
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#question textarea')"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.type("One")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#question textarea") == "One\ntwo"
    page.keyboard.press("Enter")
    page.wait_for_selector(".talk .model .state.answering")
    assert page.inner_text(".talk .you .said") == "One\ntwo" and page.input_value("#question textarea") == ""
    page.keyboard.press("Tab")  # over the send button, which cannot be pressed now
    assert page.evaluate("document.activeElement.id") == "stop"
    page.keyboard.press("Enter")
    page.wait_for_selector(".talk .state.stopped")


def test_damaged_and_unfinished_runs_are_named_and_not_offered(server, visit):
    page = visit(server)
    page.click("#checkpoint input")
    page.wait_for_selector("[role=option]")
    offered = " ".join(page.locator("[role=option]").all_inner_texts())
    assert all(name in offered for name in ("base", "alpha", "beta")) and "broken" not in offered and "begun" not in offered
    note = page.inner_text(".runs-note")
    assert "broken damaged" in note and "begun training not finished" in note


def test_regenerate_draws_anew_and_clear_forgets(server, visit):
    page = visit(server)
    pick(page, "#checkpoint", "alpha")
    limit(page, 32)
    page.fill("#sampling input[type=number] >> nth=0", "1")
    page.press("#sampling input[type=number] >> nth=0", "Tab")
    ask(page, "Hello?")
    page.wait_for_selector(".talk .state.ended")
    wait_idle(page)
    first = page.inner_text(".talk .model .said")
    page.click("#again")
    page.wait_for_function("first => ![first, undefined].includes(document.querySelector('.talk .model .said')?.innerText)", arg=first)
    page.wait_for_selector(".talk .state.ended")
    wait_idle(page)
    assert page.input_value("#seed input") == "1" and page.locator(".talk .you").count() == 1
    ask(page, "And then?")
    page.wait_for_function("document.querySelectorAll('.talk .state.ended').length === 2")
    page.click("#clear")
    page.wait_for_selector(".talk:has-text('Ask something')")
    page.click("#again")
    page.wait_for_selector("#alert:has-text('nothing to ask again')")


def test_two_people_neither_see_nor_stop_each_other(server, visit):
    pages = [visit(f"{server}/compare") for _ in range(2)]
    for page in pages:
        compare_two(page, "alpha", "beta")
        limit(page, 128)
    for number, page in enumerate(pages):
        ask(page, f"I am number {number}")
    for page in pages:
        page.wait_for_function("document.querySelector('#pane-A .said')?.textContent.length > 5")
    pages[0].click("#stop")
    pages[0].wait_for_selector("#pane-B .state.stopped")
    assert pages[1].locator(".pane .state.stopped").count() == 0
    pages[1].wait_for_selector("#pane-A .state.ended")
    pages[1].wait_for_selector("#pane-B .state.ended")
    assert pages[0].locator(".pane .state.ended").count() == 0
    assert pages[0].inner_text("#pane-A .measures") != pages[1].inner_text("#pane-A .measures")


def test_what_anybody_writes_is_shown_as_text(parrot_server, visit):
    nasty = "<img src=x onerror=\"document.title='hurt'\"> <script>document.title='hurt'</script> {{7}} ${7*7} **bold** `x` " \
            '__i18n__{"__type__": "translation_metadata", "key": "send"} [link](javascript:alert(1))'
    address, _ = parrot_server([nasty[:9], nasty[9:]])
    for path, place in (("/", ".talk .model .said"), ("/compare", "#pane-B .said")):
        page = visit(address + path)
        ask(page, nasty)
        wait_idle(page)
        page.wait_for_selector(".state.ended")
        assert page.text_content(place) == nasty
        if path == "/":
            assert page.text_content(".talk .you .said") == nasty
        assert page.title() != "hurt" and page.locator(".said *").count() == 0
        assert page.problems == []


def test_closing_a_page_stops_its_panes(parrot_server, visit):
    address, opened = parrot_server(["word "] * 100_000, pause=0.02)
    page = visit(f"{address}/compare")
    ask(page, "Go on")
    page.wait_for_function("document.querySelectorAll('.pane .state.answering').length === 2")
    assert sum(engine.at_work for engine in opened) == 2
    page.context.close()
    until = time.monotonic() + 30
    while any(engine.at_work for engine in opened):
        assert time.monotonic() < until, "the panes go on for nobody"
        time.sleep(0.1)


def test_four_checkpoints_answer_at_once_and_there_is_room_to_vote(parrot_server, visit, scenario):
    address, opened = parrot_server(["word "] * 10, pause=0.05)
    page = visit(f"{address}/compare")
    seen = "prefix => [1, 2, 3, 4, 'A', 'B', 'C', 'D'].filter(each => document.querySelector(`#${prefix}-${each}`)?.checkVisibility())"
    assert [page.evaluate(seen, prefix) for prefix in ("checkpoint", "pane", "vote")] == [[1, 2], ["A", "B"], ["A", "B"]]
    page.check("#count input[value='4']")
    page.wait_for_selector("#pane-D")
    assert [page.evaluate(seen, prefix) for prefix in ("checkpoint", "pane", "vote")] == [[1, 2, 3, 4], list("ABCD"), list("ABCD")]
    ask(page, "All of you?")
    page.wait_for_function("document.querySelectorAll('.pane .state.answering').length === 4")
    page.wait_for_selector("#vote-both_bad:has-text('All bad'):not([disabled])")
    page.click("#vote-both_bad")
    page.wait_for_selector("#vote-state:has-text('Kept as vote')")
    for count in (2, 3):
        page.check(f"#count input[value='{count}']")
        page.wait_for_selector("#pane-C", state="visible" if count == 3 else "hidden")
    assert all(page.input_value(f"#checkpoint-{number} input").startswith("base model") for number in (1, 2, 3))
    row = votes.all_votes(scenario.name)[-1]
    assert row["choice"] == "both_bad" and [each["side"] for each in row["candidates"]] == list("ABCD")


def test_a_run_that_is_damaged_meanwhile_is_refused_in_one_line(visit, scenario, tiny_base, tmp_path):
    run = add_run(tmp_path / "runs", scenario, "own", models.resolve(tiny_base))
    with running(tmp_path / "runs") as address:
        page = visit(address)
        assert page.input_value("#checkpoint input") == "fine-tuned · own"
        (run.adapter_folder / "adapter_model.safetensors").write_bytes(b"other")
        ask(page, "Still there?")
        page.wait_for_selector("#alert:has-text('damaged')")
        assert "Traceback" not in page.inner_text("body")
        page.click("#refresh")
        page.wait_for_selector(".runs-note:has-text('damaged')")
        page.wait_for_function("document.querySelector('#checkpoint input').value.startsWith('base model')")
        add_run(tmp_path / "runs", scenario, "new", models.resolve(tiny_base))
        page.click("#refresh")
        page.wait_for_timeout(500)
        pick(page, "#checkpoint", "new")
        page.wait_for_selector("details.card:has-text('Fine-tuned from')", state="attached")
