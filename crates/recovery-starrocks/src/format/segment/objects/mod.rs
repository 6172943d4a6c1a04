//! Values with an inner structure: HLL, BITMAP, PERCENTILE and JSON.

pub mod bitmap;
pub mod hll;
pub mod percentile;
pub mod velocypack;

pub use bitmap::BitmapValue;
pub use hll::Hll;
pub use percentile::Percentile;
