"""How a network of each kind is made on this host, and how a port is put on it: a module for each kind, `registry` finds it."""
