# Test programs and the check targets.
