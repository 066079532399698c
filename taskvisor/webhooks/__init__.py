"""Webhooks: each event of the stream, signed and sent to URLs that the operator chose. A producer's side: knows no worker."""
