"""The live board in a real JupyterLab and a real browser: curves grow, the buttons work while it trains, nothing of the data is a page."""

import pytest

from tests.test_labeling_browser import ATTACK, jupyter, page  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.slow, pytest.mark.alone]
BOARD = """
import time
from IPython.display import display
from labkit.widgets.live import LiveBoard

def train(on_step, on_prepare, control):
    on_prepare(10, 10)
    for step in range(1, 20001):
        control.wait_while_paused()
        time.sleep(0.01)
        row = {{"step": step, "steps": 20000, "epoch": 0, "loss": 3 / step ** 0.3, "learning_rate": 1e-3,
               "gradient_norm": 1 + step % 7 / 10, "tokens": 50, "tokens_per_second": 4000.0, "seconds": step * 0.01}}
        if control.take_evaluate():
            row |= {{"validation_loss": 1.5, "validation": {{"macro_f1": 0.5}},
                    "answers": [{{"prompt": "{attack} 问题?", "answer": "{attack}", "wanted": "yes"}}]}}
        on_step(row)
        if control.stopped:
            return "stopped well"

board = LiveBoard("medical/mine", "{language}")
display(board.view)
board.start(train)
"""
RESULT = "print('the end:', await board.finished())"
SAID = {"en": {"pause": "Pause", "resume": "Resume", "stop": "Stop", "evaluate": "Evaluate now", "paused": "Paused.",
               "answers": "Answers while", "ended": "Start it once more", "loss": "loss (nats)"},
        "zh": {"pause": "暂停", "resume": "继续", "stop": "停止", "evaluate": "立即评估", "paused": "已暂停。",
               "answers": "学习过程中的回答", "ended": "再次开始会从这里继续", "loss": "损失（nats）"}}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_training_is_steered_by_the_buttons_while_its_result_is_waited_for(page, language):  # noqa: F811
    said = SAID[language]
    notebook = page(f"live_{language}", BOARD.format(attack=ATTACK, language=language), RESULT)
    button = lambda name: notebook.locator(".labkit-live-buttons button", has_text=said[name])  # noqa: E731
    notebook.get_by_text(said["loss"]).wait_for()
    notebook.locator(".js-plotly-plot .scatterlayer .trace path.js-line").first.wait_for()
    button("pause").click()
    notebook.get_by_text(said["paused"]).wait_for()
    button("evaluate").click()
    button("resume").click()
    notebook.get_by_text(said["answers"]).wait_for()
    notebook.locator(".labkit-live td").get_by_text(ATTACK).first.wait_for()
    button("stop").click()
    notebook.get_by_text(said["ended"]).wait_for()
    notebook.get_by_text("the end: stopped well").wait_for()
