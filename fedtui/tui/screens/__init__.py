"""The seven places of the interface, a file each, and the help."""
