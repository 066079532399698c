"""What the control node tells Prometheus. Not below tests/workers, whose Redis is another."""
