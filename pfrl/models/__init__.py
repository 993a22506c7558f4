"""Which network is meant: the zoo, and files of users."""
