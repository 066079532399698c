"""A fleet in which everything goes wrong: the real engine and the real store, with simulated hosts, time, messages and faults.

One seed is one run, the same on every machine: no wall clock, no chance but the seed's, no order of sets. `python -m
tests.simulate --help` says how to ask for runs; `invariants` and `rest` say what must hold in each.
"""
