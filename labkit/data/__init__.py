"""Files as they are in, records out: sources, mapping, collecting, cleaning, duplicates, privacy, splits, the report."""
