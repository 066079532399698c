"""Addresses of the host's outer network."""

HOST, OUTSIDE, FLOATING, SECOND = "198.51.100.1", "198.51.100.2", "198.51.100.77", "198.51.100.78"
