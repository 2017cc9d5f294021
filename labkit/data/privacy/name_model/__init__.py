"""The trained weights of the detector of names and what they are trained from.

`train.py` makes `weights.en.json` and `weights.zh.json` (crc32 sums and numbers; pieces of one to four characters) from the templates,
slots and words in this folder, Faker's names of an even hash and ordinary texts. `generate.py` draws the texts, `english.py` and
`chinese.py` say what the models look at and how they find the best reading, for training and use alike, `fit.py` fits them,
`store.py` writes and reads them.
"""
