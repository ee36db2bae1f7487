"""Program words in, what every engine does in every cycle out."""
