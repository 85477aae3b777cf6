"""The demo model and its draft model: how they were made, and the files themselves."""
