"""The search engine inside the Argilla server, in place of Elasticsearch.

    queries.py, words.py, fuzzy.py   what a person types → words, phrases and operators → SQLite FTS5
    conditions.py, columns.py        filters and sorts over columns in memory
    mirror.py                        those columns: a dataset's statuses, metadata, suggestions and responses, from the server's database
    vectors.py                       one float32 matrix for each vector settings
    changes.py                       triggers in the server's database that note what changed, in the same transaction as the change
    store.py                         the side database (text index, vectors, how far the changes are worked in): may be deleted at any time
    upkeep.py, index.py              all of the above kept in step with the server's database, and asked; owned by one thread
    engine.py                        the face that the server knows (the only module that imports argilla_server)

The server's own database is the only truth. Before any question is answered, what changed since the last one is worked in, so that an
answer never lags behind what was committed, whoever committed it, and a killed process leaves nothing to repair by hand.
"""
