"""The interface: what `fedtui` opens in a terminal."""
