"""What scripts/bench and the test drivers share. Debian's python3, no other packages."""
