//! Short programs, each one use of a library; see the `examples/` folder beside.
