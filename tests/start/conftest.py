"""A simulated fleet of one host."""

from tests.support.fixtures import fleet, memory_dir

__all__ = ["fleet", "memory_dir"]
