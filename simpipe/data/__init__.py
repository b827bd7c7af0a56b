"""Images and labels: scan, decode, duplicates, splits, manifest, thumbnails. Pillow lives here alone."""
