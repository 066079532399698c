"""Images: where they come from, what they are, and the copies that this host keeps."""
