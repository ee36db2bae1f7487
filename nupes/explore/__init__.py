"""One network and many arrays in, the arrays that no other one beats out."""
