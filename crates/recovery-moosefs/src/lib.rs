//! Recovery of MooseFS metadata: for the person whose master does not start any more, and for programs that need to
//! read, replay or repair what a master, a metalogger or a backup left.
//!
//! A MooseFS master keeps its whole state in one metadata file and appends every change since to change logs. The
//! library reads and writes every version of the file from 1.5 to 4.59, replays the logs by the rules of the product
//! that wrote them so that the result is byte for byte what that product would store, and goes on where the original
//! programs drop a log, stop at a line of their own, or lose everything without a word.
//!
//! What can be restored from a set of files:
//!
//! ```
//! use std::sync::Arc;
//! use recovery_core::{Context, MemSource, Recover, Sources};
//! use recovery_moosefs::MooseFs;
//!
//! let log = "1: 1700000000|SETMETAID(7)\n2: 1700000001|SCECVERSION(3)\n3: 17000";
//! let dir = MemSource::new([("metadata.mfs.back", "MFSM NEW"), ("changelog.0.mfs", log)]);
//! let report = MooseFs.inspect(&Sources::one(Arc::new(dir)), &serde_json::Value::Null, &Context::default()).unwrap();
//! assert_eq!(report.facts["best"]["version"], 3);
//! assert_eq!(report.if_started[0].action, "skips");
//! ```
//!
//! Replaying by hand:
//!
//! ```
//! use recovery_moosefs::{Dialect, Model, Replayer, changelog};
//! let mut replayer = Replayer::new(Model::new_filesystem(Dialect::V4));
//! for line in ["1: 1700000000|SETMETAID(7)", "2: 1700000001|CREATE(1,a%2Cb,1,420,18,0,0,0):2"] {
//!     replayer.apply(&changelog::parse(line.as_bytes()).unwrap()).unwrap();
//! }
//! assert_eq!((replayer.model.version(), replayer.model.totals().inodes), (3, 2));
//! ```

#![forbid(unsafe_code)]

mod apply;
pub mod browse;
mod case;
pub mod changelog;
#[cfg(feature = "cli")]
pub mod cli;
pub mod codes;
mod dialect;
mod engine;
pub mod format;
pub mod inspect;
#[cfg(feature = "cli")]
mod metadump;
#[cfg(feature = "cli")]
mod metarestore;
pub mod model;
mod plan;
pub mod replay;
pub mod run;
mod salvage;
pub mod survey;
pub mod time;
#[cfg(feature = "cli")]
pub mod trace;
pub mod until;

pub use apply::convert;
pub use dialect::Dialect;
pub use engine::{EngineOptions, MooseFs};
pub use model::Model;
pub use replay::Replayer;
