"""A simulated fleet for the audit, which compares it with its records."""

from tests.support.fixtures import fleet, memory_dir

__all__ = ["fleet", "memory_dir"]
