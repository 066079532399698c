"""The links and addresses of this host: TAPs, bridges, and what joins them to other hosts. `netlink` is the only pyroute2."""
