//! Benches only; see the `benches/` folder beside and its README.
