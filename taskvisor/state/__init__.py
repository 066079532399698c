"""The only package that speaks to Redis: operations, instances, leases, claims, addresses, hosts, networks, events.

Invariant: every write that must be whole is one transaction (`transaction.py`); nothing here decides, it stores.
"""
