"""What every part of Taskvisor shares, and what producers import."""
