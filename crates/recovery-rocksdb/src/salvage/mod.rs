//! What can be had from damaged files: every block that verifies, and an exact word on what lies between.

mod check;
mod extent;
mod mend;
mod profile;
mod table;
mod walk;

pub use check::{Depth, TableCheck, TableDamage, check_table};
pub use mend::{Mend, Mended};
pub use profile::Profile;
pub use table::{GoodBlock, LostRange, Salvaged, TablePart};
pub use walk::{FoundBlock, FoundKind, TableWalk};
