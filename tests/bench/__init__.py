"""`make bench`: what a build costs, measured on this machine and set beside the same work done by hand, and beside the aims.

Never collected by pytest: a figure is no pass or fail. All it starts is its own, in directories and a network namespace of
its own, and is gone at the end, also after ctrl-C.
"""
