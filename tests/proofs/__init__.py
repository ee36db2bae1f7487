"""The proofs are proven; and they, their specifications and their tools are tested themselves."""
