//! The engines. Adding one is one line.

use recovery_core::cli::EngineCli;

/// Every engine, in alphabetical order.
pub(crate) fn all() -> Vec<Box<dyn EngineCli>> {
    vec![
        Box::new(recovery_bdbje::cli::Cli),
        Box::new(recovery_moosefs::cli::Cli),
        Box::new(recovery_polardb::cli::Cli),
        Box::new(recovery_rocksdb::cli::Cli),
        Box::new(recovery_starrocks::Cli),
    ]
}
