"""What a run keeps on disk: records, facts, the lock."""
