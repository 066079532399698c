"""The flow engine: steps in order, a journal of how far each has come, and the one runner that orders effect and record.

Invariant: nothing here knows what a step does. Nothing here imports Celery, Redis, libvirt, lxml or pyroute2.
"""
