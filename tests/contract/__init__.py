"""One suite per port: each test is a sentence of the port's docstring, true of the simulated and of the real adapter.

A test that only one side can pass does not belong here. Where the two differ, one of them is wrong.
"""
