"""Data files that ship with the program. Find them through importlib.resources, never by path."""
