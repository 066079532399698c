"""What a guest's cloud-init reads: NoCloud or OpenStack's config drive, as text and on a medium."""
