"""What is around the pages: the script that fixes language and colours before Gradio starts, and the rule that nothing may be
loaded from elsewhere.

Gradio takes its language from `navigator.language` alone. The script answers in its place, from `?lang=`, else what this
tab or browser chose before, else the browser's own; so that texts of ours (gr.I18n) and of Gradio agree.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.texts import PAGES

# Gradio itself needs inline scripts and styles, and evaluates functions; the last line of defence is that nothing leaves.
_POLICY = ("default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
           "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; "
           "base-uri 'self'; form-action 'self'; frame-ancestors 'self'")

_SCRIPT = """<script>
(() => {
  const url = new URL(location.href), get = (key) => { try { return sessionStorage[key] || localStorage[key]; } catch { return null; } };
  const keep = (key, value) => { try { sessionStorage[key] = localStorage[key] = value; } catch {} };
  const choose = (parameter, allowed, otherwise) => {
    const value = [url.searchParams.get(parameter), get("labkit." + parameter), otherwise].find((each) => allowed.includes(each));
    if (url.searchParams.get(parameter) === value) keep("labkit." + parameter, value);
    return value;
  };
  const own = (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
  const language = window.labkitLanguage = choose("lang", ["en", "zh"], own);
  const locale = {"en": "en", "zh": "zh-CN"}[language];
  Object.defineProperty(navigator, "language", {get: () => locale});
  Object.defineProperty(navigator, "languages", {get: () => [locale]});
  const theme = choose("__theme", ["light", "dark"], null);
  if (theme) { url.searchParams.set("__theme", theme); history.replaceState(null, "", url); }
  const english = /^(number input|range slider) for /;  // Gradio says this of its sliders in every language
  const rename = () => document.querySelectorAll("input[aria-label*=' for ']").forEach(
    (each) => each.setAttribute("aria-label", each.getAttribute("aria-label").replace(english, "")));
  new MutationObserver(rename).observe(document, {childList: true, subtree: true});
  document.addEventListener("click", (event) => {
    const control = event.target.closest("[data-labkit]");
    if (!control) return;
    event.preventDefault();
    const next = new URL(location.href);
    if (control.dataset.labkit === "language") {
      next.searchParams.set("lang", language === "zh" ? "en" : "zh");
      location.assign(next);
    } else {
      const dark = document.body.classList.toggle("dark");
      keep("labkit.__theme", dark ? "dark" : "light");
      next.searchParams.set("__theme", dark ? "dark" : "light");
      history.replaceState(null, "", next);
    }
  });
})();
</script>"""


class Shell:
    """ASGI middleware: puts the script first into every page, and the content policy on it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") not in [path.rstrip("/") for path in PAGES.values()]:
            await self._app(scope, receive, send)
            return
        start: Message = {}
        body = b""

        async def change(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            page = body.replace(b"<head>", b"<head>" + _SCRIPT.encode(), 1)
            kept = [(key, value) for key, value in start["headers"] if key.lower() != b"content-length"]
            kept += [(b"content-length", str(len(page)).encode()), (b"content-security-policy", _POLICY.encode()),
                     (b"referrer-policy", b"no-referrer")]
            await send({**start, "headers": kept})
            await send({**message, "body": page})

        await self._app(scope, receive, change)
