"""Where guests' own disks lie: files, volumes of LVM, images in Ceph. One module a kind."""
