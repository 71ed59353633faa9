"""Commands about offers, pods and disks."""
