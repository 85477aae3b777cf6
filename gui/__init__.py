"""Cyclograph's window. It shows what an engine measured and sends it commands; it never imports torch."""
