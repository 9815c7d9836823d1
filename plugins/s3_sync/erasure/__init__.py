"""Everything that is or was in a folder goes, with all its versions."""
