"""Nouns, states and errors. Imports nothing of ours, does no I/O, and is imported by every other part."""
