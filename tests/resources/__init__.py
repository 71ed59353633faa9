"""Resources other than pods: offers, disks, SSH keys and the account."""
