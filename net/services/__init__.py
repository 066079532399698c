"""What this host serves to its own guests: DHCP, names, router advertisements, metadata."""
