"""The flows, the door that requests come through, the periodic work, and the one edge to Celery (`edge.py`)."""
