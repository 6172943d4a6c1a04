//! Decoding segments to Arrow: mixed types as a table has them, and each encoding alone. The throughput is in bytes of
//! the decoded pages (what the engine calls uncompressed).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recovery_core::{Blob, MemBlob};
use recovery_starrocks::format::segment::proto::{
    BTreeMeta, ColumnIndex, ColumnMeta, DataPageFooter, DictPageFooter, IndexPageFooter, OrdinalIndex, PageFooter,
    PagePointer, SegmentFooter, encoding, page_kind,
};
use recovery_starrocks::format::segment::{bitshuffle, fixed, footer, page, strings};
use recovery_starrocks::model::schema::{Column, ColumnType, TabletSchema};
use recovery_starrocks::reader::{ReadOptions, Segment};

const ROWS: usize = 1 << 20;

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    columns: Vec<ColumnMeta>,
    schema: TabletSchema,
    decoded: u64,
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n & 0x7F) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

impl File {
    fn page(&mut self, body: &[u8], mut footer: PageFooter) -> PagePointer {
        footer.uncompressed_size = body.len() as u32;
        // As the engine's default: one LZ4 frame where it saves a tenth.
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        std::io::Write::write_all(&mut encoder, body).unwrap();
        let packed = encoder.finish().unwrap();
        let stored = if packed.len() < body.len() - body.len() / 10 && footer.kind != page_kind::INDEX {
            &packed[..]
        } else {
            body
        };
        let page = page::encode(stored, &footer);
        let pointer = PagePointer { offset: self.bytes.len() as u64, size: page.len() as u32 };
        self.bytes.extend_from_slice(&page);
        pointer
    }

    fn column(
        &mut self,
        kind: ColumnType,
        code: i32,
        nulls: bool,
        per_page: usize,
        mut body: impl FnMut(usize, usize) -> Vec<u8>,
        dict: Option<Vec<u8>>,
    ) {
        let mut entries = Vec::new();
        let mut n = 0u32;
        for from in (0..ROWS).step_by(per_page) {
            let to = (from + per_page).min(ROWS);
            let mut bytes = body(from, to);
            self.decoded += bytes.len().max((to - from) * width(kind)) as u64;
            let mut map = 0;
            if nulls {
                let flags: Vec<u8> = (from..(to + 7) & !7).map(|i| u8::from(i % 11 == 0 && i < to)).collect();
                let packed = bitshuffle::encode(&flags, 1);
                map = packed.len() as u32;
                bytes.extend_from_slice(&packed);
            }
            let data = DataPageFooter {
                first_ordinal: from as u64,
                num_values: (to - from) as u64,
                nullmap_size: map,
                corresponding_element_ordinal: None,
                format_version: Some(2),
                null_encoding: Some(0),
            };
            let pointer =
                self.page(&bytes, PageFooter { kind: page_kind::DATA, data: Some(data), ..PageFooter::default() });
            entries.push(8);
            entries.extend_from_slice(&(from as u64).to_be_bytes());
            varint(pointer.offset, &mut entries);
            varint(u64::from(pointer.size), &mut entries);
            n += 1;
        }
        let dict_page = dict.map(|body| {
            let dict = Some(DictPageFooter { encoding: encoding::PLAIN });
            self.page(&body, PageFooter { kind: page_kind::DICTIONARY, dict, ..PageFooter::default() })
        });
        let index = Some(IndexPageFooter { num_entries: n, kind: 1 });
        let root = self.page(&entries, PageFooter { kind: page_kind::INDEX, index, ..PageFooter::default() });
        let ordinal = Some(OrdinalIndex { root: Some(BTreeMeta { root_page: Some(root), is_root_data_page: false }) });
        let id = self.columns.len() as u32;
        self.columns.push(ColumnMeta {
            column_id: id,
            unique_id: id,
            type_code: kind.code(),
            encoding: code,
            compression: 5,
            is_nullable: nulls,
            indexes: vec![ColumnIndex { kind: 1, ordinal, ..ColumnIndex::default() }],
            dict_page,
            ..ColumnMeta::default()
        });
        let mut column = Column::new(i64::from(id), format!("c{id}"), kind);
        (column.precision, column.scale) = (Some(18), Some(2));
        self.schema.columns.push(column);
    }

    fn fixed(&mut self, kind: ColumnType, nulls: bool, value: impl Fn(usize) -> i128) {
        let w = width(kind);
        let body = |from: usize, to: usize| {
            let values: Vec<u8> = (from..to).flat_map(|i| value(i).to_le_bytes()[..w].to_vec()).collect();
            fixed::encode_bit_shuffle(&values, w)
        };
        self.column(kind, encoding::BIT_SHUFFLE, nulls, 65_536 / w, body, None);
    }

    fn finish(mut self) -> (Arc<Segment>, TabletSchema, u64) {
        let footer = SegmentFooter { version: 2, columns: self.columns, num_rows: ROWS as u64, short_key_page: None };
        self.bytes.extend_from_slice(&footer::encode(&footer));
        let blob: Arc<dyn Blob> = Arc::new(MemBlob::new("segment", self.bytes));
        (Arc::new(Segment::open(blob).unwrap()), self.schema, self.decoded)
    }
}

fn width(kind: ColumnType) -> usize {
    match kind {
        ColumnType::TinyInt => 1,
        ColumnType::SmallInt => 2,
        ColumnType::Int | ColumnType::Date => 4,
        ColumnType::LargeInt | ColumnType::Decimal128 => 16,
        _ => 8,
    }
}

fn mix(i: usize) -> i128 {
    i128::from((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20)
}

fn plain_text(file: &mut File) {
    let text = |i: usize| format!("customer-{:x}-{}", mix(i), i % 97);
    let body = |from: usize, to: usize| {
        let all: Vec<String> = (from..to).map(text).collect();
        strings::encode_plain(all.iter().map(String::as_bytes))
    };
    file.column(ColumnType::Varchar, encoding::PLAIN, true, 2048, body, None);
}

fn dict_text(file: &mut File) {
    let names: Vec<String> = (0..1000).map(|i| format!("category-{i:04}")).collect();
    let body = |from: usize, to: usize| {
        let codes: Vec<u8> =
            (from..to).flat_map(|i| u32::try_from(mix(i).rem_euclid(1000)).unwrap_or(0).to_le_bytes()).collect();
        let mut page = (encoding::DICT as u32).to_le_bytes().to_vec();
        page.extend_from_slice(&fixed::encode_bit_shuffle(&codes, 4));
        page
    };
    file.column(
        ColumnType::Varchar,
        encoding::DICT,
        true,
        16_384,
        body,
        Some(strings::encode_plain(names.iter().map(String::as_bytes))),
    );
}

fn mixed() -> (Arc<Segment>, TabletSchema, u64) {
    let mut file = File::default();
    file.fixed(ColumnType::BigInt, false, |i| i as i128 * 3);
    file.fixed(ColumnType::Date, true, |i| 2_459_000 + (i as i128 / 5000));
    file.fixed(ColumnType::Int, true, |i| mix(i) % 1_000_000);
    file.fixed(ColumnType::Datetime, true, |i| ((2_459_000 + i as i128 / 9000) << 40) | (mix(i) % 86_400_000_000));
    file.fixed(ColumnType::Double, true, |i| i128::from((mix(i) as f64 / 7.0).to_bits()));
    file.fixed(ColumnType::Decimal64, true, |i| mix(i) % 10_000_000);
    file.fixed(ColumnType::SmallInt, true, |i| mix(i) % 300);
    dict_text(&mut file);
    plain_text(&mut file);
    file.finish()
}

fn one(add: impl FnOnce(&mut File)) -> (Arc<Segment>, TabletSchema, u64) {
    let mut file = File::default();
    add(&mut file);
    file.finish()
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("starrocks_segment");
    group.sample_size(10);
    let cases = [
        ("mixed", mixed()),
        ("bigint", one(|f| f.fixed(ColumnType::BigInt, false, |i| i as i128 * 3))),
        ("int_random_nulls", one(|f| f.fixed(ColumnType::Int, true, |i| mix(i) % 1_000_000))),
        ("plain_text", one(plain_text)),
        ("dict_text", one(dict_text)),
    ];
    for (name, (segment, schema, bytes)) in cases {
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(name, |b| {
            let all: Vec<usize> = (0..schema.columns.len()).collect();
            b.iter(|| {
                let mut rows = segment.rows(&schema, &all, ReadOptions::default()).unwrap();
                let mut n = 0;
                while let Some(next) = rows.next_batch().unwrap() {
                    n += black_box(next.batch).num_rows();
                }
                assert_eq!(n, ROWS);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
