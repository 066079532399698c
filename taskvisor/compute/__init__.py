"""Deciding what fits where. Pure: given what is known of hosts, it says which one, and of every other why not."""
