"""Instructions: steps with payloads, what is resident in the slots, the order of LOADs."""
