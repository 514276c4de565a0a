"""What kubelet executes, and the resident agent behind it."""
