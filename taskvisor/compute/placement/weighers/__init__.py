"""What tells hosts that fit apart: one module a theme. A gauge says how much a host has of something; weights say whether that is
good.
"""
