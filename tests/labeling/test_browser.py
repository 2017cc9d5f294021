"""A person in a real browser: log in, search, label three records; the client reads the labels back."""

import argilla
import pytest

from tests.apps.conftest import is_local

WAIT = 90_000  # milliseconds: the machine may be loaded
TEXTS = ["My card was charged twice", "Where is my refund for the broken kettle?", "我的退款什么时候到账?",
         "Refund for the blue lamp, please", "How do I change my address?", "Please refund the second ticket"]


@pytest.fixture(scope="module")
def dataset(argilla_server):
    client = argilla.Argilla(api_url=argilla_server.url, api_key=argilla_server.owner_key)
    settings = argilla.Settings(fields=[argilla.TextField("text", title="Message")],
                                questions=[argilla.LabelQuestion("topic", title="Topic", labels=["refund", "other"])])
    made = argilla.Dataset(name="browsed", workspace="lab", settings=settings, client=client)
    made.create()
    made.records.log([argilla.Record(id=f"r{number}", fields={"text": text}) for number, text in enumerate(TEXTS)])
    yield made
    made.delete()


@pytest.fixture
def page(browser):
    context = browser.new_context(locale="en-US", viewport={"width": 1400, "height": 900})
    context.set_default_timeout(WAIT)
    context.route("**/*", lambda route: route.continue_() if is_local(route.request.url) else route.abort())
    yield context.new_page()
    context.close()


@pytest.mark.slow
def test_a_person_logs_in_searches_and_labels_three_records_that_the_client_reads_back(page, argilla_server, dataset, tmp_path):
    ana = next(each for each in argilla_server.accounts if each.username == "ana")
    page.goto(argilla_server.url)
    page.fill("input[name=Username]", ana.username)
    page.fill("input[name=Password]", ana.password)
    page.click("button:has-text('Sign in')")
    page.click(".dataset-card:has-text('browsed')")
    page.get_by_text("1 of 6").wait_for()

    page.click("button.search-area__icon")
    page.fill("input.search-area__input", "refund")
    page.press("input.search-area__input", "Enter")
    page.get_by_text("1 of 3").wait_for()
    for done in range(3):
        page.get_by_text(f"{done + 1} of 3").wait_for()
        assert "refund" in page.inner_text(".fields").lower()
        page.click("label[for=topic_refund]")
        with page.expect_response(lambda answer: answer.request.method == "POST" and answer.url.endswith("/responses")) as saved:
            page.click("button.button--submit")
        assert saved.value.status == 201
    page.get_by_text("no pending records").wait_for()
    page.get_by_text("50.00%").wait_for()  # three of six: progress is counted anew
    page.screenshot(path=tmp_path / "labelled.png")

    answers = {each.id: [(answer.question_name, answer.value, answer.status.value) for answer in each.responses]
               for each in dataset.records(with_responses=True)}
    wanted = {"r1", "r3", "r5"}  # those with the word in them
    assert {name for name, given in answers.items() if given} == wanted
    assert all(answers[name] == [("topic", "refund", "submitted")] for name in wanted)
