"""What runs inside the Argilla server's own Python environment, started as `PYTHON -m argilla_side` with `labkit/labeling` on the path.

Nothing here imports labkit, and no file of the server's package is touched: what the lab does otherwise is put in place before the
server's modules are imported. `__main__` starts the server, `database` prepares its SQLite file, `jobs` is the job queue in place of redis,
`speed` keeps what the server builds anew for every record, `search` is the search engine in place of Elasticsearch.
"""
