//! Benchmark support shared by the suites.
