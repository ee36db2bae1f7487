"""Other ways of quantizing, beside which ours are measured: a float module in, a function out."""
