"""ipywidgets for the notebooks."""
