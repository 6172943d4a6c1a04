//! The documented, versioned forms of everything that appears in JSON; printed by `recover schema`.

/// Name and JSON Schema of every form.
pub const ALL: &[(&str, &str)] = &[
    ("recover/probe/1", include_str!("../schema/probe.json")),
    ("recover/report/1", include_str!("../schema/report.json")),
    ("recover/plan/1", include_str!("../schema/plan.json")),
    ("recover/receipt/1", include_str!("../schema/receipt.json")),
    ("recover/rescue/1", include_str!("../schema/rescue.json")),
    ("recover/starrocks-prune/1", include_str!("../schema/starrocks-prune.json")),
    ("recover/refusal/1", include_str!("../schema/refusal.json")),
    ("recover/error/1", include_str!("../schema/error.json")),
    ("recover/bdbje-image/1", include_str!("../schema/bdbje-image.json")),
    ("recover/rocksdb-ls/1", include_str!("../schema/rocksdb-ls.json")),
    ("recover/rocksdb-verify/1", include_str!("../schema/rocksdb-verify.json")),
    ("recover/rocksdb-sst/1", include_str!("../schema/rocksdb-sst.json")),
    ("recover/rocksdb-repair/1", include_str!("../schema/rocksdb-repair.json")),
];
