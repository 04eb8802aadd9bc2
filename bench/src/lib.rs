//! Drives the product from outside: comparisons, load, and the repository's own tidy test. Nothing imports this package.
