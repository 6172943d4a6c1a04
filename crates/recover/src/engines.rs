//! The engines. Adding one is one line.

use recovery_core::cli::EngineCli;

/// Every engine, in alphabetical order.
pub(crate) fn all() -> Vec<Box<dyn EngineCli>> {
    vec![
        #[cfg(feature = "bdbje")]
        Box::new(recovery_bdbje::cli::Cli),
        #[cfg(feature = "moosefs")]
        Box::new(recovery_moosefs::cli::Cli),
        #[cfg(feature = "polardb")]
        Box::new(recovery_polardb::cli::Cli),
        #[cfg(feature = "rocksdb")]
        Box::new(recovery_rocksdb::cli::Cli),
        #[cfg(feature = "starrocks")]
        Box::new(recovery_starrocks::Cli),
    ]
}
