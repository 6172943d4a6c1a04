//! Bytes that claim to be a change log, applied to a new filesystem of each product.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_moosefs::{Dialect, Model, Replayer, changelog};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let dialect = Dialect::ALL[usize::from(which % 4)];
    let mut model = Model::new_filesystem(dialect);
    model.set_budget(16 << 20);
    let mut replayer = Replayer::new(model);
    for line in rest.split(|&b| b == b'\n') {
        // the ids do not matter here: each line is taken as the next
        if let Ok(change) = changelog::parse(line) {
            let _ = replayer.apply(&change);
        }
    }
    replayer.model.store(&mut std::io::sink(), Default::default()).expect("a sink takes bytes");
});
