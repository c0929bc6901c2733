"""Stand-in for the package that the mmaction2 1.2.0 wheel lacks."""
