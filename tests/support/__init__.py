"""Simulated fleets, a clock that stands still, and a post that tests can interfere with: what engine and flow tests stand on."""
