"""Colours, fonts and style sheet. Fonts are the system's own, so that nothing has to be fetched."""

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Noto Sans Mono CJK SC", "monospace")


def theme():
    """The Gradio theme."""
    import gradio as gr
    from gradio.themes.utils.fonts import Font

    return gr.themes.Soft(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", radius_size="lg",
                          font=[Font(name) for name in _FONTS], font_mono=[Font(name) for name in _MONO]).set(
        body_background_fill="*neutral_50", layout_gap="12px",
        body_text_color_subdued="*neutral_600", block_shadow="none", block_border_width="1px",
        block_title_background_fill="none", block_title_background_fill_dark="none", block_title_padding="0",
        block_title_text_color="*body_text_color", block_title_text_color_dark="*body_text_color", block_title_text_weight="600",
        input_border_width="1px", input_border_width_dark="1px", input_border_color="*neutral_300", input_border_color_dark="*neutral_600",
        input_shadow="none", checkbox_border_width="1px", checkbox_border_color="*neutral_500", checkbox_border_color_dark="*neutral_400",
        checkbox_label_border_width="1px", checkbox_label_border_color="*neutral_300", checkbox_label_border_color_dark="*neutral_600",
        checkbox_label_shadow="none", button_large_text_weight="600", button_large_padding="8px 16px",
        button_secondary_border_color="*neutral_300", button_secondary_border_color_dark="*neutral_600", button_border_width="1px",
        button_border_width_dark="1px", button_secondary_shadow="none",
        button_secondary_background_fill_hover="*neutral_100", button_secondary_background_fill_hover_dark="*neutral_600",
        button_cancel_background_fill="white", button_cancel_background_fill_hover="#fef2f2", button_cancel_text_color="#b91c1c",
        button_cancel_border_color="#f87171", button_cancel_background_fill_dark="*neutral_700", button_cancel_text_color_dark="#fecaca",
        button_cancel_background_fill_hover_dark="*neutral_600", button_cancel_border_color_dark="#b91c1c", button_cancel_shadow="none",
        button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800",
        button_primary_text_color="white", button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800", button_primary_text_color_dark="white",
        button_primary_border_color="*primary_700", button_primary_border_color_dark="*primary_700")


CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; padding: 0 16px 32px !important; }
.gradio-container, .gradio-container * { letter-spacing: normal; }
footer, .nav-holder { display: none !important; }
.main.fillable { padding: 8px 0 0 !important; }
.html-container { padding: 0 !important; }
.gone { display: none !important; }
.beside { align-self: center !important; }
#examples .gallery-item { text-align: left; white-space: normal; }
#vote { padding: 12px; gap: 10px; background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
  border-radius: 10px; }
.pane-column { display: flex; flex-direction: column; gap: 8px !important; }
.pane-column > .pane-place { flex: 1 1 auto; }
.pane-column > button { flex: 0 0 auto; }
.pane-place .html-container, .pane-place .prose { height: 100%; }
:focus-visible { outline: 3px solid var(--primary-500) !important; outline-offset: 2px; }
.quiet { color: var(--body-text-color-subdued); }

header.top { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 24px; padding: 12px 0 4px; }
header.top .brand { font-weight: 700; font-size: 1.15rem; margin: 0; }
header.top nav { display: flex; gap: 4px; }
header.top a, header.top button { color: var(--body-text-color); text-decoration: none; padding: 6px 12px; border-radius: 8px;
  background: none; border: 1px solid transparent; font: inherit; cursor: pointer; line-height: 1.4; }
header.top a:hover, header.top button:hover { background: var(--background-fill-secondary); }
header.top a[aria-current] { background: var(--primary-100); color: var(--primary-900); font-weight: 600; }
.dark header.top a[aria-current] { background: var(--primary-900); color: var(--primary-100); }
header.top .tools { margin-left: auto; display: flex; gap: 8px; }
header.top .tools > * { border-color: var(--border-color-primary); }

.notice { margin: 0; padding: 8px 12px; border-radius: 8px; border-left: 4px solid #b45309; background: #fef3c7; color: #713f12; }
.dark .notice { background: #3b2a0c; color: #fde68a; border-left-color: #f59e0b; }

.alert { margin: 0; padding: 8px 12px; border-radius: 8px; border: 1px solid var(--primary-600); background: var(--block-background-fill);
  overflow-wrap: anywhere; }

.card { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 6px 12px; font-size: .9rem;
  background: var(--block-background-fill); }
.card summary { cursor: pointer; font-weight: 500; padding: 2px 0; }
.card p { margin: 6px 0; }
.runs-note { font-size: .9rem; }
.runs-note p, .runs-note ul { margin: 2px 0; }
.runs-note li { list-style: disc; margin-left: 20px; overflow-wrap: anywhere; }

.pane, .talk article { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 10px 14px;
  background: var(--block-background-fill); }
.pane { border-top: 4px solid var(--side-colour, var(--border-color-primary)); height: 100%; min-height: 180px; }
.pane h2, .talk h2 { margin: 0 0 6px; font-size: .95rem; font-weight: 600; }
.pane h2 { display: flex; gap: 10px; align-items: baseline; }
.side { display: inline-block; min-width: 1.7em; text-align: center; border-radius: 6px; font-weight: 700;
  background: var(--body-text-color); color: var(--body-background-fill); }
.pane .name, .talk .name { overflow-wrap: anywhere; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6; }
.state { margin: 6px 0 0; font-size: .85rem; color: var(--body-text-color-subdued); }
.state.moving::before { content: ""; display: inline-block; width: .6em; height: .6em; margin-right: .5em; border-radius: 50%;
  background: var(--primary-500); animation: beat 1s ease-in-out infinite alternate; }
@keyframes beat { from { opacity: .25; } to { opacity: 1; } }
@media (prefers-reduced-motion: reduce) { .state.moving::before { animation: none; } }
.state.stopped { color: #b45309; }
.dark .state.stopped { color: #fbbf24; }
.state.failed { color: #b91c1c; overflow-wrap: anywhere; }
.dark .state.failed { color: #fca5a5; }
.measures { margin: 6px 0 0; font-size: .8rem; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }

.talk { display: flex; flex-direction: column; gap: 12px; }
.talk article { max-width: 46rem; }
.talk article.you { align-self: flex-end; background: var(--primary-50); border-color: var(--primary-200); }
.dark .talk article.you { background: var(--primary-950); border-color: var(--primary-800); }
.talk article.you h2 { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.talk article.model { align-self: stretch; border-left: 4px solid var(--side-colour); }

table.fields, .tally table, .card table { border-collapse: collapse; width: 100%; font-size: .9rem; border: 0 !important; margin: 0; }
table.fields { margin-top: 10px; }
table.fields tr, .tally tr, .card tr { border: 0 !important; }
table.fields caption { text-align: left; font-size: .8rem; color: var(--body-text-color-subdued); padding-bottom: 2px; }
table.fields th, table.fields td, .tally th, .tally td, .card th, .card td {
  border: 0 !important; border-top: 1px solid var(--border-color-primary) !important;
  padding: 4px 12px 4px 0 !important; text-align: left; vertical-align: top; font-weight: 400; overflow-wrap: break-word; }
table.fields th { width: 22%; color: var(--body-text-color-subdued); }
table.fields td > div { max-height: 4.8em; line-height: 1.6; overflow-y: auto; }
.tally thead th, .card thead th { font-size: .8rem; color: var(--body-text-color-subdued); border-top: 0 !important; }
.card th small { display: block; color: var(--body-text-color-subdued); }
.card td { white-space: nowrap; }
.card td small { color: var(--body-text-color-subdued); }
.tally h2 { margin: 0 0 4px; font-size: 1rem; }
.tally p { font-size: .85rem; margin: 6px 0 0; }
.scroll { overflow-x: auto; }
.bar { display: block; position: relative; height: 6px; width: 120px; margin-top: 4px; border-radius: 3px;
  background: var(--border-color-primary); }
.bar i { position: absolute; top: 0; bottom: 0; background: #56B4E9; border-radius: 3px; }
.bar b { position: absolute; top: -2px; bottom: -2px; width: 2px; background: var(--body-text-color); }

@media (max-width: 640px) {
  #count, #blind { min-width: 100% !important; }
  .tally .scroll { max-width: calc(100vw - 56px); }
  .tally table { min-width: 34rem; }
  .gradio-container { padding: 0 10px 24px !important; }
  header.top { gap: 6px 12px; }
  header.top a, header.top button { padding: 6px 10px; }
}
"""
