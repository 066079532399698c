"""What is shipped to run it: compose, units, ACLs, proxies. Checked by the programs that read them."""
