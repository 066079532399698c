"""The whole of it: real workers, real Redis, and in test_main_job.py real guests."""
