"""Program words in; loads, weights, and the issue of every activation word out."""
