"""labkit: prepare data, fine-tune, evaluate and serve language models, on a laptop or a cluster.

Importing this package is cheap on purpose: torch, transformers, gradio and argilla are imported inside the functions
that need them.
"""

__version__ = "0.1.0"
