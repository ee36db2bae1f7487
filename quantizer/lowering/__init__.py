"""Stages and decisions in, integers of the contract out."""
