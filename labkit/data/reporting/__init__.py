"""The parts of the data report: what is counted (`measures`), how two texts differ (`differences`), the page (`page`, `words`)."""
