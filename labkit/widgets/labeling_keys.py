"""Keys for a box of widgets: those pressed inside it come to Python, while JupyterLab's own shortcuts rest there.

ipywidgets tells of no key; this is the one part that needs a few lines of JavaScript.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anywidget

BOX = "labkit-labeler"  # the CSS class of the box whose keys are listened to

# In a text only Ctrl+Enter is taken (in a one-line input Enter too), else a letter could not be typed. What was typed goes along with the
# key, and the input itself does not tell of it: its own message was seen to come after the key's, when the next record was there already.
# Space, and Enter on the buttons below the form, stay the browser's: they press the button.
_SCRIPT = """
function render({ model, el }) {
  let box = null, ours = false;
  const press = (event) => {
    const at = event.target, plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const enter = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    const isText = at.matches("textarea, input, select, [contenteditable=true]");
    const save = enter && (event.ctrlKey || event.metaKey || (plain && at.matches("input")));
    if (isText ? !save : !(save || plain)) return;
    if (!isText && enter && at.closest(".labkit-actions, .jupyter-widget-Collapse")) return;
    if (event.key === " " || event.key.length > 1 && !["Enter", "ArrowLeft", "ArrowRight", "Delete"].includes(event.key)) return;
    event.preventDefault();
    if (event.repeat) return;
    const typed = isText ? { place: [...box.querySelectorAll("textarea, input")].indexOf(at), text: at.value } : {};
    if (isText) {
      const hush = (change) => change.stopImmediatePropagation();
      box.addEventListener("change", hush, true);
      at.blur();
      box.removeEventListener("change", hush, true);
    }
    model.send({ key: event.key, ...typed });
  };
  const inside = () => { ours = true; };
  const anywhere = (event) => { if (box && !box.contains(event.target)) ours = false; };
  const attach = (tries) => {
    box = el.closest(".labkit-labeler");
    if (!box) { if (tries) requestAnimationFrame(() => attach(tries - 1)); return; }
    box.tabIndex = 0;
    box.setAttribute("data-lm-suppress-shortcuts", "true");
    box.addEventListener("keydown", press, true);  // before the inputs of ipywidgets, which let no key out
    box.addEventListener("pointerdown", inside);
    box.addEventListener("focusin", inside);
    document.addEventListener("pointerdown", anywhere, true);
  };
  const focus = (said) => { if (said.focus && ours && box) box.focus({ preventScroll: true }); };
  el.style.display = "none";
  model.on("msg:custom", focus);
  attach(600);
  return () => {
    model.off("msg:custom", focus);
    document.removeEventListener("pointerdown", anywhere, true);
    if (box) box.removeEventListener("keydown", press, true);
  };
}
export default { render };
"""


def listen(act: Callable[[str], None], type_in: Callable[[int, str], None]) -> "anywidget.AnyWidget":
    """A widget to put into the box.

    The widget's `send({"focus": True})` gives the keyboard back to the box it was last used in.

    Args:
        act: called with each key pressed in the box ("Enter", "ArrowLeft", "1", "q" …).
        type_in: called before with (place, text), where the key was pressed in a text: its place among the box's texts, and what it says.
    """
    def hear(widget: "anywidget.AnyWidget", content: dict[str, Any], buffers: list[bytes]) -> None:
        if content.get("place", -1) >= 0:
            type_in(content["place"], content["text"])
        act(content["key"])

    keys = _kind()()
    keys.on_msg(hear)
    return keys


@cache
def _kind() -> type:
    import anywidget

    return type("Keys", (anywidget.AnyWidget,), {"_esm": _SCRIPT})
