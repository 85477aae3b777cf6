"""Cyclograph's engine: runs a model step by step and measures where the time of each token goes. Never imports Qt."""

__version__ = "0.1.0"
