"""The host's virtual machines: domains (libvirt), disks and images (qemu-img). Knows nothing of flows, stores or links."""
