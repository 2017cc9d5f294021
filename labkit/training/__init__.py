"""Records and a recipe in, a run out. `trainer.train` is the way in."""
