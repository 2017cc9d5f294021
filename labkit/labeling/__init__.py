"""Labelling by people: an Argilla server of one's own, records there and back, how good labels are, what they cost, what to label next."""
