"""The web app: `python -m apps.main --port 7860`, or `labkit app`."""

import argparse
import os
import sys

from labkit import process
from labkit.errors import LabError
from labkit.lab import HOST, check_port


def build(pool=None):
    """The app's pages as a `gr.Blocks`, not started; `pool` (`apps.panes.Pool`) is where its engines are."""
    process.prepare()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy"), HOST]))  # Gradio asks itself whether it is up
    import gradio as gr

    from apps.chat import ChatPage
    from apps.compare import ComparePage
    from apps.panes import Desks, Pool

    desks = Desks(pool or Pool())

    def leave(request: gr.Request) -> None:
        desks.leave(request.session_hash)

    with gr.Blocks(title="labkit", analytics_enabled=False) as app:
        ChatPage(desks, app)
        app.unload(leave)
    with app.route("Compare", "/compare", show_in_navbar=False):
        ComparePage(desks, app)
        app.unload(leave)
    return app.queue(default_concurrency_limit=None)


def _get_ready(pool) -> None:
    """Open the base once in the background: importing and loading takes seconds that nobody should wait for at the first question."""
    from apps import checkpoints
    from labkit import scenarios

    first = scenarios.names()[0]
    base = checkpoints.listing(first).available[checkpoints.BASE]
    pool.warm(base, ("", 0), [{"role": "system", "content": base.scenario.system_prompt("en")}])


def launch(port: int = 7860, wait: bool = True):
    """Serve on 127.0.0.1 until Ctrl-C; with `wait=False` give the running app back."""
    from starlette.middleware import Middleware

    from apps.panes import Pool

    pool = Pool()
    app = build(pool)
    from apps.controls import i18n
    from apps.shell import Shell
    from apps.theme import CSS, theme

    _get_ready(pool)
    app.launch(server_name=HOST, server_port=port, share=False, inbrowser=False, quiet=True, show_error=False, footer_links=[],
               run_history=False, enable_monitoring=False, pwa=False, mcp_server=False, ssr_mode=False, prevent_thread_lock=True,
               i18n=i18n(), theme=theme(), css=CSS, app_kwargs={"middleware": [Middleware(Shell)]}, max_file_size="1mb")
    print(f"chat and compare: http://{HOST}:{port}/", flush=True)
    if wait:
        app.block_thread()
    return app


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m apps.main", description="The lab's web app, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=7860)
    port = parser.parse_args().port
    try:
        check_port(port, "PORT")
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        sys.exit(2)
    launch(port)


if __name__ == "__main__":
    main()
