"""Images as documents: references, digests, manifests, configs. Pure: bytes in, data out."""
