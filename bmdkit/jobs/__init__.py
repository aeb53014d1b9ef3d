"""Many jobs at once in processes of their own, here or on a cluster, and one writer at a time; no domain knowledge."""
