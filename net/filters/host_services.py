"""What of this host its guests may reach, by their network's gateway or any other address it has. Rules as text: pure.

DHCP, DNS, an echo, the metadata service (also where it answers on another port, by redirection), neighbour discovery, and answers
to what the host itself began. The host's own services (SSH, libvirt, Redis, …) are none of the guests' business.
"""

METADATA_ADDRESS = "169.254.169.254"
DISCOVERY = "nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert"
REPORTS = "mld-listener-report, mld-listener-done, mld2-listener-report"
SERVICES = (
    "ct state established,related accept",
    "udp dport { 53, 67, 547 } accept",
    "tcp dport 53 accept",
    "icmp type echo-request accept",
    f"icmpv6 type {{ echo-request, {DISCOVERY}, {REPORTS} }} accept",
    f"ct original ip daddr {METADATA_ADDRESS} meta l4proto tcp ct original proto-dst 80 accept",
)
"""All that passes; what comes after must turn away the rest."""
