"""The web app: pages to chat with one checkpoint and to compare several. It knows `labkit`; `labkit` does not know it."""
