"""What the README's section Security promises, where no other folder of tests proves it already."""
