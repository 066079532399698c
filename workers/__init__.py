"""The process on a host: the Celery app, how it starts, how it says that it lives, and the adapters opened after fork."""
