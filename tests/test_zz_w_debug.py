from playwright.sync_api import sync_playwright
import nbformat
from tests.test_labeling_browser import ATTACK, jupyter, WAIT
from tests.test_live_browser import BOARD, RESULT
import time
def test_x(chromium, jupyter):
    address, folder = jupyter
    sent = []
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        cells = [BOARD.format(attack=ATTACK, language="en"), RESULT]
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}), folder / "dbg.ipynb")
        page = found.new_page(viewport={"width": 1200, "height": 1500})
        def frame(p):
            t = p if isinstance(p, str) else p.decode("utf8", "replace")
            if "comm" in t or "subshell" in t: sent.append((time.time(), t[-900:] if len(t)>900 else t))
        page.on("websocket", lambda ws: ws.on("framesent", frame))
        page.goto(f"{address}/doc/tree/dbg.ipynb")
        page.locator(".jp-Notebook .cm-content").first.click()
        page.get_by_text("| Idle").first.wait_for(timeout=WAIT)
        for number in range(2):
            page.locator(".jp-CodeCell .cm-content").nth(number).click()
            page.keyboard.press("Shift+Enter")
        page.locator(".labkit-live-buttons button", has_text="Pause").wait_for(timeout=WAIT)
        time.sleep(4)
        at = time.time()
        page.locator(".labkit-live-buttons button", has_text="Pause").click()
        time.sleep(3)
        print("CLICK", at)
        for t, s in sent:
            if t > at - .5 or "create_subshell" in s: print(t, s, "\n")
        found.close()
