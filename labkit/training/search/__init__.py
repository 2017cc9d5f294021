"""Hyper-parameter search: a recipe with ranges beside its settings in, the best settings and how much of the gain is noise out.

`space` (what may vary), `plan` (samplers, pruners, storages), `study` (what has been tried), `workers` (trying, in one or several
processes), `trials` (a trial is a training), `importance`, `noise` (repeated seeds), `report` with `page`, `command` (all of it: what
`labkit search` does).
"""
