"""Kinds of resources, a module each: what a guest asks of one, and what a host has of it. Pure.

Each is a plug-in, of the entry point group `taskvisor.resources` (`registry`); `table` puts those together that an operator
named, and `things` finds what of a host is to be one guest's alone.
"""
