"""What everything stands on: files written whole or not at all, tables, shards, sorted merges, times."""
