//! `__meta` in both forms: any bytes; what parses gives definitions, SQL, and the same tree when written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_starrocks::format::meta_json::Meta;
use recovery_starrocks::sql;

fuzz_target!(|data: &[u8]| {
    let Ok(meta) = Meta::decode(data) else { return };
    for table in meta.tables() {
        let text = sql::create_table(&table, &table.name);
        let _ = sql::differences(&table, &text);
    }
    if let Ok(bytes) = meta.encode() {
        let again = Meta::decode(&bytes).expect("what was written is read");
        assert_eq!(again.form, meta.form);
    }
});
