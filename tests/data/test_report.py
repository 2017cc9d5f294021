"""The report: every row accounted for, counts that are right, a page that keeps the data's texts as texts and asks for no network."""

import dataclasses
import json
import re
from collections import Counter
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import plots_data, records
from labkit.data import collect, pipeline, plan, report, steps
from labkit.data.reporting import differences, measures, words
from labkit.errors import LabError

ATTACK = "</script><script>window.attacked=1</script><img src=x onerror=window.attacked=1> \"'&$1$"
STEPS = ("markup", "spaces", "length", "exact_duplicates", "near_duplicates", "split")


def record(scenario, number, text, file="mails.csv", language="en", answer=None):
    answer = {"kind": "pear" if number % 2 else "apple", "weight": 10.0 + number} if answer is None else answer
    return records.make(scenario.name, language, [{"role": "user", "content": text}], answer, source=file, license="CC0-1.0",
                        meta={"row": number + 2})


def collected_from(scenario, rows, rejects=()):
    read = Counter(row["source"] for row in rows) + Counter(reject["file"] for reject in rejects)
    return SimpleNamespace(records=records.from_list(rows), scenario=scenario, rejects=list(rejects), rows_read=dict(read),
                           titles={file: file for file in read}, mapping={})


@pytest.fixture
def collected(small_scenario):
    """43 rows of two files: 30 different records, 4 repeated, 3 too short, 3 with markup; 3 more could not be read."""
    rows = [record(small_scenario, number, f"Fruit {number}: it was {chr(97 + number) * 40} and sweet") for number in range(20)]
    rows += [record(small_scenario, 20 + number, f"第{number}个水果" + chr(0x5000 + number) * 12, "问题.csv", "zh") for number in range(10)]
    rows += [record(small_scenario, 50 + number, rows[number]["messages"][0]["content"]) for number in range(4)]
    rows += [record(small_scenario, 60 + number, "x") for number in range(3)]
    rows += [record(small_scenario, 70 + number, f"<p>{chr(97 + number) * 9} an apple</p>") for number in range(3)]
    rejects = [{"file": "mails.csv", "row": 90 + number, "problem": f"{number + 3} cells where the header has 2",
                "values": {"text": "her number is 555-0100"}} for number in range(3)]
    return collected_from(small_scenario, rows, rejects)


@pytest.fixture
def prepared(collected):
    return pipeline.run(collected.records, collected.scenario, plan.of(*STEPS))


@pytest.fixture
def made(collected, prepared):
    return report.build(collected, prepared, collected.scenario, base="")


def test_every_row_is_kept_dropped_or_rejected(made):
    rows = made["rows"]
    assert (rows["read"], rows["kept"], rows["dropped"], rows["rejected"]) == (43, 33, 7, 3)
    by_file = {entry["file"]: entry for entry in rows["by_file"]}
    assert by_file["mails.csv"] == {"file": "mails.csv", "read": 33, "kept": 23, "dropped": 7, "rejected": 3}
    assert by_file["问题.csv"] == {"file": "问题.csv", "read": 10, "kept": 10, "dropped": 0, "rejected": 0}
    dropped = {step["name"]: sum(step["dropped"].values()) for step in made["steps"]}
    assert dropped["length"] == 3 and dropped["exact_duplicates"] == 4 and sum(dropped.values()) == 7


def test_files_are_accounted_for_as_they_are_collected(small_scenario, tmp_path):
    (tmp_path / "mails" / "old").mkdir(parents=True)
    (tmp_path / "mails" / "new.csv").write_text("text,kind\nan apple of mine,apple\na pear of mine,pear\nx,pear\none,two,three\n")
    (tmp_path / "mails" / "old" / "new.csv").write_text("text,kind\n一个又圆又红的苹果,apple\n,pear\n", encoding="utf-8")
    (tmp_path / "mails" / "broken.csv").write_text("text,kind\none,two,three\n", encoding="utf-8")
    collected = collect.collect([str(tmp_path / "mails")], small_scenario, {"text": "text", "kind": "kind"}, folder=tmp_path / "out")
    prepared = pipeline.run(collected.records, collected.scenario, plan.of("length"))
    rows = report.build(collected, prepared, collected.scenario, base="")["rows"]
    assert (rows["read"], rows["kept"], rows["dropped"], rows["rejected"]) == (7, 3, 1, 3)
    by_file = {entry["file"]: (entry["read"], entry["kept"], entry["dropped"], entry["rejected"]) for entry in rows["by_file"]}
    assert by_file.pop("new.csv") == (4, 2, 1, 1) and by_file.pop("old/new.csv") == (2, 1, 0, 1)
    assert list(by_file.values()) == [(1, 0, 0, 1)]


def test_a_row_that_nobody_accounts_for_stops_the_report(collected, prepared):
    collected.rows_read["mails.csv"] += 1
    with pytest.raises(LabError, match="mails.csv: 23 kept . 7 dropped . 3 rejected = 33, but 34 rows were read"):
        report.build(collected, prepared, collected.scenario, base="")


def test_a_step_whose_count_is_wrong_stops_the_report(collected, prepared):
    prepared.counts[2].dropped["too_short"] += 1
    with pytest.raises(LabError, match="cannot account for every row"):
        report.build(collected, prepared, collected.scenario, base="")


def test_the_report_is_plain_json_and_written_whole(made, tmp_path):
    report.write(made, tmp_path / "report.html", tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == made
    assert sorted(path.name for path in tmp_path.glob("report*")) == ["report.html", "report.json"]


def test_languages_labels_numbers_and_lengths_are_those_of_the_kept_records(made, prepared):
    kept = list(prepared.records)
    assert Counter({key: count for counts in made["languages"].values() for key, count in counts.items()}).keys() == {"en", "zh"}
    assert sum(count for counts in made["languages"].values() for count in counts.values()) == 33
    expected = Counter((row["split"], row["language"], row["answer"]["kind"]) for row in kept)
    assert {(row["split"], row["language"], row["value"]): row["records"] for row in made["labels"]["kind"]["counts"]} == dict(expected)
    characters = [len(row["messages"][0]["content"]) for row in kept]
    assert made["characters"]["total"] == sum(characters) and made["characters"]["largest"] == max(characters)
    assert made["characters"]["median"] == float(numpy.median(characters))
    assert made["numbers"]["weight"]["n"] == 33 and made["numbers"]["weight"]["lacking"] == 0
    assert made["sources"] == [{"source": "mails.csv", "license": "CC0-1.0", "records": 23},
                               {"source": "问题.csv", "license": "CC0-1.0", "records": 10}]
    assert made["fingerprint"] == records.fingerprint(prepared.records)


def test_duplicates_are_shown_with_what_they_repeat(made, collected):
    entry = next(step for step in made["duplicates"]["steps"] if step["name"] == "exact_duplicates")
    assert entry["dropped"] == 4 and len(made["duplicates"]["examples"]) == 3
    for pair in made["duplicates"]["examples"]:
        assert pair["kept"] == pair["dropped"] == collected.records[pair["position"]]["messages"][0]["content"]
        assert pair["file"] == "mails.csv" and pair["alike"] == 1.0


def test_rejected_rows_are_listed_and_their_problems_counted_without_their_values(made):
    rejects = made["rejects"]
    assert rejects["count"] == 3 and rejects["by_problem"] == [{"problem": "… cells where the header has …", "rows": 3}]
    assert rejects["first"][0] == {"file": "mails.csv", "row": 90, "problem": "3 cells where the header has 2"}
    assert "555-0100" not in json.dumps(made)


@pytest.mark.parametrize(("said", "shown"), [
    ("weight: 'my name is Ann' is not a number", "weight: … is not a number"),
    ("column 'message' is empty", "column 'message' is empty"),
    ("column 'split': \"Ann's\" is none", "column 'split': … is none"),
    ("the split '\\'a\\' \"b\"' is none of train", "the split … is none of train"),
])
def test_a_problem_is_shown_without_what_stood_in_the_row(said, shown):
    assert words.problem(said) == shown


def test_findings_are_counted_by_kind(small_scenario):
    rows = [{**record(small_scenario, number, f"{'word ' * number}end"), "meta": {"row": number, "privacy": {"email": number}}}
            for number in range(1, 4)]
    found = measures.measure(records.from_list(rows), small_scenario)
    assert found["privacy"] == {"email": {"found": 6, "records": 3}}


def test_tokens_are_those_that_training_sees(small_scenario, small_records):
    from transformers import AutoTokenizer

    from labkit import models
    from labkit.training import examples

    found = measures.token_lengths(small_records, small_scenario, models.DEFAULT, 100)
    train = records.in_split(small_records, "train")
    tokenizer = AutoTokenizer.from_pretrained(models.resolve().folder)
    encoded = examples.encode(train, small_scenario, tokenizer, 10_000)
    assert found["train_records"] == 8 and found["train_mean"] == round(encoded.tokens / 8, 2)
    assert found["n"] == found["sampled"] == 12


def test_a_sample_of_tokens_does_not_depend_on_the_order(small_scenario, small_records):
    from labkit import models

    turned = small_records.select(range(len(small_records) - 1, -1, -1))
    one, other = (measures.token_lengths(some, small_scenario, models.DEFAULT, 5) for some in (small_records, turned))
    assert one == other and one["sampled"] == 5 and one["records"] == 12


def test_the_cost_is_tokens_times_epochs_over_speed(small_scenario, small_records):
    collected = collected_from(small_scenario, list(small_records))
    prepared = pipeline.run(collected.records, small_scenario, plan.of("spaces"))
    training = report.Training(epochs=2, tokens_per_second=10.0, gpu_tokens_per_second=100.0, gpu_price=36.0, currency="CNY")
    found = report.build(collected, prepared, small_scenario, training=training)
    total = found["cost"]["train_tokens"]
    assert total == pytest.approx(found["tokens"]["train_mean"] * 8, abs=0.6)
    assert found["cost"]["minutes"] == pytest.approx(total * 2 / 10 / 60, rel=0.01)
    assert found["cost"]["gpu_cost"] == pytest.approx(total * 2 / 100 / 3600 * 36, rel=0.01)
    page = words.cost(found["tokens"], found["cost"])
    assert f"{total:,} × 2 ÷ 10 =" in page["en"][1] and f"{total:,} × 2 ÷ 10 =" in page["zh"][1] and "36 CNY" in page["zh"][2]


def test_a_base_that_is_not_here_is_said_in_the_report(collected, prepared):
    found = report.build(collected, prepared, collected.scenario, base="./no-such-model")
    assert "no such folder" in found["tokens"]["problem"] and found["cost"] is None


def test_an_empty_result_has_a_report_too(small_scenario, tmp_path):
    collected = collected_from(small_scenario, [record(small_scenario, 1, "x"), record(small_scenario, 2, "")])
    prepared = pipeline.run(collected.records, small_scenario, plan.of("length"))
    found = report.build(collected, prepared, small_scenario)
    assert found["rows"]["kept"] == 0 and found["tokens"] is None
    report.write(found, tmp_path / "report.html", tmp_path / "report.json")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=80), st.booleans())
def test_a_histogram_counts_each_value_in_its_bar(values, whole):
    array = numpy.array(values) if whole else numpy.array(values) / 7
    found = measures.histogram(array)
    edges, counts = found["edges"], found["counts"][""]
    assert sum(counts) == len(values) and len(edges) == len(counts) + 1 <= 48
    assert all(low < high for low, high in zip(edges, edges[1:], strict=False))
    if whole:
        assert counts == numpy.histogram(array, bins=[*edges[:-1], edges[-1] + 1])[0].tolist()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_pieces_of_a_difference_join_to_both_texts(before, after):
    found = differences.pieces(before, after)
    assert "".join(piece.text for piece in found if piece.kind != "new") == before
    assert "".join(piece.text for piece in found if piece.kind != "gone") == after
    assert "<script" not in differences.as_html(differences.pieces("<script>", after)).replace("&lt;script", "")


@pytest.mark.parametrize(("before", "after", "shown"), [
    ("call 13812345678 now", "call [PHONE] now", "call <del>13812345678</del><ins>[PHONE]</ins> now"),
    ("我的电话是13812345678，请回", "我的电话是[手机号]，请回", "我的电话是<del>13812345678</del><ins>[手机号]</ins>，请回"),
    ("zero\u200bwidth", "zerowidth", "<del>zero⟨U+200B⟩width</del><ins>zerowidth</ins>"),
    ("two  spaces", "two spaces", "two<del>··</del><ins>·</ins>spaces"),
    ("same", "same", "same"),
])
def test_a_difference_is_marked_by_word_and_by_chinese_character(before, after, shown):
    assert differences.as_html(differences.pieces(before, after)) == shown


def test_a_long_text_is_cut_to_what_stands_around_its_changes():
    before = "a" * 50 + " b" * 2_000 + " <b> " + "c " * 2_000
    short = differences.shortened(differences.pieces(before, before.replace("<b> ", "")))
    assert sum(len(piece.text) for piece in short) < 400 and differences.Piece("gone", "<b> ") in short


def test_every_step_and_its_reasons_have_titles_in_both_languages():
    for step in steps.every().values():
        assert step.title["en"] and re.search("[\u4e00-\u9fff]", step.title["zh"]), step.name
    for code, title in words._reasons().items():
        assert title["en"] and re.search("[\u4e00-\u9fff]", title["zh"]), code


class Elements(HTMLParser):
    """The elements of a page with their attributes, and how many texts it has in each language."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def attacked(small_scenario):
    """A report on data that is full of HTML: texts, file names, labels, problems, licences."""
    label = dataclasses.replace(small_scenario.fields[0].labels[0], en="<b>apple</b> $x$ " + ATTACK, zh="苹果" + ATTACK)
    field = dataclasses.replace(small_scenario.fields[0], labels=(label, small_scenario.fields[0].labels[1]))
    scenario = dataclasses.replace(small_scenario, fields=(field, *small_scenario.fields[1:]))
    rows = [{**record(scenario, number, f"{number} {chr(97 + number) * 30}  {ATTACK}", f"{ATTACK}.csv"), "license": ATTACK,
             "split": "train"} for number in range(6)]
    rows.append(rows[0])
    collected = collected_from(scenario, rows, [{"file": f"{ATTACK}.csv", "row": 8, "problem": f"not JSON: {ATTACK}", "values": {}}])
    prepared = pipeline.run(collected.records, scenario, plan.of("spaces", "exact_duplicates"))
    return report.build(collected, prepared, scenario, base="")


def test_nothing_in_the_data_becomes_an_element_of_the_page(attacked, tmp_path):
    report.write(attacked, tmp_path / "report.html", tmp_path / "report.json")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parser = Elements()
    parser.feed(page)
    tags = Counter(tag for tag, _ in parser.found)
    assert tags["script"] == 3 and tags["img"] == 0
    assert not any(name.startswith("on") for _, attributes in parser.found for name in attributes)
    figures = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page).group(1)
    assert "<" not in figures and set(json.loads(figures)) >= {"flow", "characters", "labels:kind", "languages"}


def test_the_page_names_no_address_and_forbids_the_network(made, tmp_path):
    from plotly.offline import get_plotlyjs

    report.write(made, tmp_path / "report.html", tmp_path / "report.json")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count(get_plotlyjs()) == 1
    own = page.replace(get_plotlyjs(), "")
    assert "http:" not in own and "https:" not in own and "default-src 'none'" in own
    assert len(own.encode()) < 300_000
    parser = Elements()
    parser.feed(page)
    addresses = [value for _, attributes in parser.found for name, value in attributes.items() if name in ("src", "href")]
    assert addresses and all(value.startswith("#") for value in addresses)
    assert own.count('<span lang="en">') == own.count('<span lang="zh">') > 50


def test_figures_keep_names_of_the_data_as_text(attacked):
    for figure in (plots_data.flow(attacked), plots_data.label_counts(attacked, "kind"), plots_data.language_mix(attacked, "zh")):
        texts = re.findall(r'"((?:[^"\\]|\\.)*)"', json.dumps(figure.to_plotly_json()["data"], default=str))
        assert not any("<" in re.sub("<br>|</?extra>", "", text) or "$" in text for text in texts)


def test_the_flow_of_rows_neither_loses_nor_makes_any(made):
    figure = plots_data.flow(made)
    link = figure.data[0].link
    into, out = Counter(), Counter()
    for start, end, count in zip(link.source, link.target, link.value, strict=True):
        out[start] += count
        into[end] += count
    assert out[0] == 43 and set(out) - {0} <= set(into)
    assert all(into[node] == out[node] for node in out if node)
    assert sum(into[node] for node in into if node not in out) == 43


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_works_from_a_file_in_a_browser(attacked, tmp_path, chromium, language):
    from playwright.sync_api import sync_playwright

    report.write({**attacked, "language": language}, tmp_path / "report.html", tmp_path / "report.json")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        asked, problems = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_selector("#flow .sankey-node")
        first = page.inner_text("h1")
        page.click("#language")
        assert page.inner_text("h1") != first
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        for name in ("labels", "languages", "plan"):
            page.locator(f"#{name}").scroll_into_view_if_needed()
        page.wait_for_function("document.querySelectorAll('#labels .main-svg').length > 0")
        assert page.evaluate("window.attacked") is None and page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert "</script>" in page.locator("#labels .figure").first.text_content()
        assert len(asked) == 1 and not problems
        browser.close()
