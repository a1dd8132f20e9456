"""Pictures and mattes on disk: folders, manifests and shards."""
