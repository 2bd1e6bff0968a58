"""The sub-commands of `equi`, one file for each group. They are imported when they are called, not before."""
