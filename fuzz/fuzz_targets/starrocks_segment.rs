//! A real segment with lies in its pages and its footer, each under a right checksum. Each four bytes of input are one
//! lie: where (three bytes) and what. Strict and salvaging reads must end, without a panic and within bounds.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use recovery_core::MemBlob;
use recovery_starrocks::format::segment::footer::{self, TRAILER};
use recovery_starrocks::format::segment::walk::{Piece, walk};
use recovery_starrocks::format::segment::{crc32c, proto::SegmentFooter};
use recovery_starrocks::model::schema::{Column, ColumnType, TabletSchema};
use recovery_starrocks::reader::{ReadOptions, Segment, salvage};

struct Clean {
    data: Vec<u8>,
    /// First byte and the byte behind the last of every page.
    pages: Vec<(usize, usize)>,
    footer_at: usize,
}

static CLEAN: LazyLock<Vec<Clean>> = LazyLock::new(|| {
    let cases: [&[u8]; 3] = [
        include_bytes!("../../fixtures/starrocks/segments/v20_default/segment.dat"),
        include_bytes!("../../fixtures/starrocks/segments/map_struct_json_c7/segment.dat"),
        include_bytes!("../../fixtures/starrocks/segments/all_null/segment.dat"),
    ];
    let clean = |data: &[u8]| {
        let n = data.len() - TRAILER as usize;
        let length = u32::from_le_bytes(data[n..n + 4].try_into().expect("four bytes"));
        let footer_at = n - length as usize;
        let pages = walk(&bytes::Bytes::copy_from_slice(&data[..footer_at]));
        let pages = pages.iter().filter_map(|p| match p {
            Piece::Page(p) => Some((p.offset as usize, p.offset as usize + p.size as usize)),
            Piece::Gap(_) => None,
        });
        Clean { data: data.to_vec(), pages: pages.collect(), footer_at }
    };
    cases.map(clean).into()
});

fn schema_of(footer: &SegmentFooter) -> TabletSchema {
    fn column(meta: &recovery_starrocks::format::segment::proto::ColumnMeta, depth: u32) -> Column {
        let kind = ColumnType::from_code(meta.type_code).unwrap_or(ColumnType::Int);
        let mut column = Column::new(i64::from(meta.unique_id), format!("c{}", meta.unique_id), kind);
        column.nullable = meta.is_nullable;
        (column.precision, column.scale) = (Some(38), Some(9));
        if depth > 0 {
            column.children = meta.children.iter().map(|c| column_of(c, depth - 1)).collect();
        }
        let extra = usize::from(meta.is_nullable) + usize::from(matches!(kind, ColumnType::Array | ColumnType::Map));
        column.children.truncate(column.children.len().saturating_sub(extra));
        column
    }
    fn column_of(meta: &recovery_starrocks::format::segment::proto::ColumnMeta, depth: u32) -> Column {
        column(meta, depth)
    }
    let columns = footer.columns.iter().take(64).map(|c| column(c, 8)).collect();
    TabletSchema { columns, ..TabletSchema::default() }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, lies)) = input.split_first() else { return };
    let clean = &CLEAN[usize::from(*which) % CLEAN.len()];
    let mut data = clean.data.clone();
    for lie in lies.chunks_exact(4).take(64) {
        let at = usize::from(lie[0]) << 16 | usize::from(lie[1]) << 8 | usize::from(lie[2]);
        let len = data.len();
        data[at % len] = lie[3];
    }
    for (from, to) in &clean.pages {
        let sum = crc32c(&data[*from..to - 4]);
        data[to - 4..*to].copy_from_slice(&sum.to_le_bytes());
    }
    let n = data.len();
    let message = data[clean.footer_at..n - TRAILER as usize].to_vec();
    data[n - 8..n - 4].copy_from_slice(&crc32c(&message).to_le_bytes());
    data[n - 12..n - 8].copy_from_slice(&(message.len() as u32).to_le_bytes());
    data[n - 4..].copy_from_slice(footer::MAGIC);
    let blob: Arc<dyn recovery_core::Blob> = Arc::new(MemBlob::new("segment.dat", data));
    let options = ReadOptions { batch_rows: 512, page_limit: 8 << 20, nesting: 16, ..ReadOptions::default() };
    let mut schema = TabletSchema::default();
    if let Ok(segment) = Segment::open(Arc::clone(&blob)) {
        schema = schema_of(segment.footer());
        let segment = Arc::new(segment);
        let all: Vec<usize> = (0..schema.columns.len()).collect();
        for salvage in [false, true] {
            let options = ReadOptions { salvage, lossy_text: salvage, ..options };
            if let Ok(mut rows) = segment.rows(&schema, &all, options) {
                for _ in 0..64 {
                    if !matches!(rows.next_batch(), Ok(Some(_))) {
                        break;
                    }
                }
            }
        }
    }
    if let Ok(segment) = salvage::without_footer(&blob, &schema, None) {
        let all: Vec<usize> = (0..schema.columns.len()).collect();
        if let Ok(mut rows) = segment.rows(&schema, &all, ReadOptions { salvage: true, ..options }) {
            let _ = rows.next_batch();
        }
    }
});
