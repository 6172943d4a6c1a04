//! A whole repository with one of its files replaced, under a name that carries the right MD5: inspect, then plan.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use recovery_core::{Context, MemSource, Recover as _, Source, Sources};
use recovery_starrocks::STARROCKS;
use serde_json::Value;

/// Header, definitions and description of a table without rows, as the seed corpus holds them.
fn names() -> [&'static str; 5] {
    const TABLET: &str = "__starrocks_repository_r/__ss_l/__ss_content/__db_1/__tbl_2/__part_3/__idx_4/__5";
    static NAMES: OnceLock<[String; 5]> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        [
            "__starrocks_repository_r/__ss_l/__info_2024-01-01-00-00-00-000".to_owned(),
            "__starrocks_repository_r/__ss_l/__meta".to_owned(),
            format!("{TABLET}/5.hdr"),
            format!("{TABLET}/meta"),
            format!("{TABLET}/02ab_0.dat"),
        ]
    });
    names.each_ref().map(String::as_str)
}

fuzz_target!(|data: &[u8]| {
    // The input is cut into five files, each a length and its bytes.
    let mut source = MemSource::default();
    source.insert("__starrocks_repository_r/__repo_info", &b"{\"name\":\"r\"}"[..]);
    let mut rest = data;
    for name in names() {
        let Some((length, tail)) = rest.split_first_chunk::<2>() else { break };
        let n = usize::from(u16::from_le_bytes(*length)).min(tail.len());
        let (file, tail) = tail.split_at(n);
        rest = tail;
        if !file.is_empty() {
            let sum = recovery_starrocks::md5_hex(file);
            source.insert(format!("{name}.{sum}"), file.to_vec());
        }
    }
    let sources = Sources::one(Arc::new(source) as Arc<dyn Source>);
    let cx = Context::with_threads(1);
    if let Ok(report) = STARROCKS.inspect(&sources, &Value::Null, &cx) {
        let _ = STARROCKS.plan(&sources, &report, &Value::Null, &cx);
    }
});
