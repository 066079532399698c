"""What may pass: the rules of networks and ports in nftables, and the translation of addresses."""
