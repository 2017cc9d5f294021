"""Tasks beside a scenario's own chat: classification, tagging, extractive question answering, sentence pairs, embeddings.

`formats` reads published file formats and the lab's samples; `alignment` goes from words to sub-tokens and back, `windows` from long
contexts to windows and back.
"""
