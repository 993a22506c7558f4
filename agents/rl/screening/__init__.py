"""Which of several candidate episodes is played, by a learned model of the reward."""
