"""The native stack: every server of the comparison as a process of this machine."""
