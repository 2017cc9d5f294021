"""What every page is built on: a desk for each browser, and how a refusal is shown."""

from typing import Any

import gradio as gr

from apps import views
from apps.panes import Desk, Desks
from labkit.errors import LabError

Updates = dict[Any, Any]  # component -> what it shows now


class Page:
    """One page for all browsers; what belongs to one of them is on its desk."""

    alert: gr.HTML  # where a line for the user is shown

    def __init__(self, desks: Desks) -> None:
        self._desks = desks

    def _desk(self, request: gr.Request) -> Desk:
        return self._desks.of(request.session_hash)

    def _refuse(self, problem: LabError | str, desk: Desk) -> Updates:
        desk.hint = problem.said(desk.language) if isinstance(problem, LabError) else problem
        return {self.alert: views.alert(desk.hint)}
