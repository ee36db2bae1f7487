"""Published networks as PyTorch modules, with loaders for their published weights (files are not
included).
"""
