//! Bytes that claim to be a page body of any encoding, a value of any complex type, or a piece of a file without footer.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use recovery_starrocks::format::segment::objects::{BitmapValue, Hll, Percentile, velocypack};
use recovery_starrocks::format::segment::proto::{DataPageFooter, PageFooter, page_kind};
use recovery_starrocks::format::segment::{Codec, Layout, Shape, compress, data_page, index, roaring, walk};

fuzz_target!(|input: &[u8]| {
    let Some((head, body)) = input.split_first_chunk::<8>() else { return };
    let body = Bytes::copy_from_slice(body);
    let [what, encoding, shape, format, nulls, map, rows_low, rows_high] = *head;
    match what % 8 {
        0..=2 => {
            let rows = u64::from(rows_low) | u64::from(rows_high) << 8;
            let data = DataPageFooter {
                first_ordinal: 0,
                num_values: rows,
                nullmap_size: u32::from(map),
                corresponding_element_ordinal: None,
                format_version: Some(u32::from(format % 3)),
                null_encoding: Some(i32::from(nulls % 4)),
            };
            let footer = PageFooter { kind: page_kind::DATA, data: Some(data), ..PageFooter::default() };
            let shape = match shape % 10 {
                0 => Shape::Bits,
                1 => Shape::Strings,
                n => Shape::Fixed([1, 2, 3, 4, 8, 12, 16, 32][usize::from(n) - 2]),
            };
            let layout = Layout { encoding: i32::from(encoding % 9), shape, limit: 1 << 20 };
            if let Ok(page) = data_page::decode(&footer, &body, layout) {
                assert_eq!(page.len() as u64, rows);
                assert!(page.present.is_none_or(|p| p.len() as u64 == rows));
            }
        }
        3 => {
            let size = usize::from(rows_low) | usize::from(rows_high) << 8;
            if let Ok(out) = compress::decompress(Codec::from_code(i32::from(encoding % 10)), &body, size) {
                assert_eq!(out.len(), size);
            }
        }
        4 => {
            if let Ok(hll) = Hll::decode(&body) {
                assert_eq!(Hll::decode(&hll.encode()).as_ref(), Ok(&hll));
            }
            if let Ok(bitmap) = BitmapValue::decode(&body) {
                assert_eq!(BitmapValue::decode(&bitmap.encode()).as_ref(), Ok(&bitmap));
            }
            let _ = roaring::delete_vector(&body);
        }
        5 => {
            if let Ok(digest) = Percentile::decode(&body) {
                let _ = (digest.quantile(0.5), digest.count());
            }
            let _ = velocypack::decode(&body, 32);
        }
        6 => {
            let covered: u64 = walk::walk(&body).iter().map(|p| match p {
                walk::Piece::Page(p) => u64::from(p.size),
                walk::Piece::Gap(range) => range.end - range.start,
            }).sum();
            assert_eq!(covered, body.len() as u64);
        }
        _ => {
            use prost::Message;
            let (footer, rest) = body.split_at(usize::from(map).min(body.len()));
            if let Ok(footer) = PageFooter::decode(footer) {
                if let Ok((_, entries)) = index::decode_entries(&footer, rest) {
                    let _ = index::ordinals(&entries);
                }
                let _ = index::decode_short_keys(&footer, &Bytes::copy_from_slice(rest));
            }
        }
    }
});
