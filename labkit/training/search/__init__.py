"""Hyper-parameter search: a recipe with ranges beside its settings in, the best settings and how much of the gain is noise out.

`space` (what may vary), `study` (what has been tried, on Optuna's storage), `workers` (trying, in one or several processes), `trials` (a
trial is a training), `importance`, `noise` (repeated seeds), `report`, `command` (all of it: what `labkit search` does).
"""
