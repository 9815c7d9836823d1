"""`make bench [SCALE=1] [ROWS='scan copy'] [ROUNDS=3]`: this project beside the tools that people use for the same.

Both sides of a row run in turn, on the same files, in the same minutes; what counts is their ratio. A row is kept
as JSON and shown in Markdown; running some rows leaves the others as they were. At SCALE=1 both go to `docs/`.
Nothing is deleted between the runs of a row: ext4 looks for inodes that were not freed in the last minutes, so
whoever writes after a deletion would pay for it.
"""
