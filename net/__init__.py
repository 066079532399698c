"""The links, addresses, filters and DHCP of this host. Imports the model only, and knows nothing of guests or disks."""
