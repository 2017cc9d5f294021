"""Files as they are in, records out."""
