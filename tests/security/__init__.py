"""What SECURITY.md promises, where no other folder of tests proves it already."""
