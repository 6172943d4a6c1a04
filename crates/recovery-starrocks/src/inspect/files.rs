//! One pass over the bytes of every file: MD5 of the whole, and for segments the CRC of each page on the way.

use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use prost::Message as _;
use recovery_core::{Blob, Context, ReadError, Source};
use serde::{Deserialize, Serialize};

use super::pages::{self, Span};
use crate::format::segment::proto::{PageFooter, page_kind};
use crate::model::repository::Named;
use crate::model::schema::TabletSchema;
use crate::reader::load::store_failed;

/// Bytes read at a time.
const CHUNK: u64 = 1 << 20;

/// Bytes read at a time where every read is a request to a store.
const STORE_CHUNK: u64 = 8 << 20;

/// A file to be read.
#[derive(Clone, Debug)]
pub struct Job {
    /// The file.
    pub file: Named,
    /// Whether it has the form of a segment.
    pub segment: bool,
    /// To decode every value with; none where only checksums are looked at.
    pub values: Option<Arc<TabletSchema>>,
}

/// What decoding every value found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// Columns decoded.
    pub columns: u64,
    /// Rows of them.
    pub rows: u64,
    /// Columns that do not decode although their pages verify, with the reason.
    pub faults: Vec<(String, String)>,
    /// Columns of kinds that are not read here.
    pub unknown: Vec<String>,
    /// Rows with a smaller key than the row before.
    pub unsorted: u64,
}

/// What a page that does not verify is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadPage {
    /// Place in the file.
    pub offset: u64,
    /// Length.
    pub size: u64,
    /// What it belongs to.
    pub what: String,
    /// Unique id of the column.
    pub column: Option<i64>,
    /// First row and number of rows, for data pages.
    pub rows: Option<(u64, u64)>,
    /// Whether rows are lost with it; an index page can be done without.
    pub data: bool,
    /// Stored CRC-32C.
    pub stored: u32,
    /// Computed CRC-32C.
    pub computed: u32,
}

/// What the inside of a segment says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentState {
    /// Rows, by the footer.
    pub rows: Option<u64>,
    /// Why the footer cannot be used.
    pub complaint: Option<String>,
    /// Pages looked at.
    pub pages: u64,
    /// Pages that do not verify.
    pub bad: Vec<BadPage>,
    /// Columns whose pages could not be found, with the reason.
    pub lost_columns: Vec<String>,
    /// Bytes that neither a page nor the footer covers.
    pub uncovered: u64,
}

impl SegmentState {
    /// Whether every byte is covered by a checksum that is right.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.complaint.is_none() && self.bad.is_empty() && self.lost_columns.is_empty() && self.uncovered == 0
    }
}

/// What one pass found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// MD5 of the content, in hexadecimal; none when it could not be read whole.
    pub md5: Option<String>,
    /// Ranges that could not be read: offset, length, reason.
    pub unreadable: Vec<(u64, u64, String)>,
    /// The inside of a segment; none for other files.
    pub segment: Option<SegmentState>,
    /// Its values, where they were asked for.
    #[serde(default)]
    pub values: Option<Values>,
}

impl FileState {
    /// Whether the MD5 is the one in the name.
    #[must_use]
    pub fn named_right(&self, file: &Named) -> bool {
        matches!((&self.md5, file.md5()), (Some(a), Some(b)) if *a == recovery_core::hex(&b))
    }
}

/// Reads a file once.
///
/// # Errors
///
/// When the caller asked to stop, or the store stopped answering.
pub fn check(source: &dyn Source, job: &Job, cx: &Context) -> recovery_core::Result<FileState> {
    let mut pass = match Pass::open(source, job, CHUNK, cx)? {
        Opened::Reading(pass) => pass,
        Opened::Done(state) => return Ok(*state),
    };
    let mut hash = Md5::new();
    while let Some(bytes) = pass.next(cx)? {
        hash.update(&bytes);
    }
    pass.finish(&hash.finalize().into(), job, cx)
}

/// A file that was opened.
pub(super) enum Opened {
    /// It cannot be read at all.
    Done(Box<FileState>),
    /// Its bytes are to be read.
    Reading(Box<Pass>),
}

/// A file on its way through: chunk by chunk, with the pages in each checked.
pub(super) struct Pass {
    blob: Arc<dyn Blob>,
    spans: Vec<Span>,
    state: FileState,
    whole: bool,
    at: u64,
    /// The first page that was not seen.
    next: usize,
    chunk: u64,
}

impl Pass {
    /// Opens a file and finds its pages. `chunk` bytes are read at a time, more where a page is longer.
    pub(super) fn open(source: &dyn Source, job: &Job, chunk: u64, cx: &Context) -> recovery_core::Result<Opened> {
        let mut state = FileState::default();
        let blob = match source.open(&job.file.entry) {
            Ok(blob) => blob,
            Err(e) if store_failed(&e) => return Err(e.into()),
            Err(e) => {
                state.unreadable.push((0, job.file.entry.size, e.to_string()));
                return Ok(Opened::Done(Box::new(state)));
            }
        };
        let mut spans = Vec::new();
        if job.segment && !blob.is_empty() {
            let mut segment = SegmentState::default();
            match pages::map(blob.as_ref(), cx) {
                Ok(map) => {
                    segment.rows = Some(map.rows);
                    segment.lost_columns = map.lost_columns;
                    spans = map.spans;
                    segment.uncovered = uncovered(&spans, map.footer.start);
                }
                Err(pages::Complaint::Read(e)) if store_failed(&e) => return Err(e.into()),
                Err(complaint) => segment.complaint = Some(complaint.to_string()),
            }
            state.segment = Some(segment);
        } else if job.segment {
            let complaint = Some("the file is empty".into());
            state.segment = Some(SegmentState { complaint, ..SegmentState::default() });
        }
        let blob = if job.values.is_some() { held(blob, cx) } else { blob };
        let chunk = if blob.concurrency() > 8 { STORE_CHUNK } else { chunk };
        Ok(Opened::Reading(Box::new(Self { blob, spans, state, whole: true, at: 0, next: 0, chunk })))
    }

    /// The next chunk that can be read, its pages checked. It ends at a page's end where one is near, so that pages are
    /// seen whole without a second read.
    pub(super) fn next(&mut self, cx: &Context) -> recovery_core::Result<Option<Bytes>> {
        let len = self.blob.len();
        while self.at < len {
            cx.cancelled()?;
            let (at, next) = (self.at, self.next);
            let (end, until) = chunk_end(&self.spans, next, at, len, (self.chunk, cx.limits.record));
            let spans = self.spans.get(next..until).unwrap_or_default();
            let read = self.blob.bytes(at..end);
            match &read {
                Ok(bytes) => spans.iter().for_each(|span| check_span(span, at, bytes, &mut self.state)),
                Err(e) if store_failed(e) => return Err(e.clone().into()),
                Err(e) => {
                    self.whole = false;
                    unreadable(&mut self.state, at, end, e);
                    spans.iter().for_each(|span| again(self.blob.as_ref(), span, &mut self.state));
                }
            }
            cx.progress.advance(end.saturating_sub(at));
            (self.next, self.at) = (until, end);
            if let Ok(bytes) = read {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// What was found, with the sum of the bytes.
    pub(super) fn finish(self: Box<Self>, md5: &[u8; 16], job: &Job, cx: &Context) -> recovery_core::Result<FileState> {
        let mut state = self.state;
        if let Some(segment) = &mut state.segment
            && segment.pages < self.spans.len() as u64
        {
            let left = (self.spans.len() as u64).saturating_sub(segment.pages);
            segment
                .lost_columns
                .push(format!("{left} pages larger than the limit of {} bytes were not checked", cx.limits.record));
        }
        if self.whole {
            state.md5 = Some(recovery_core::hex(md5));
        }
        #[cfg(feature = "arrow")]
        if let (Some(schema), true) = (&job.values, state.segment.as_ref().is_some_and(SegmentState::whole)) {
            state.values = Some(super::values::decode(&self.blob, schema, cx)?);
        }
        #[cfg(not(feature = "arrow"))]
        let _ = job;
        Ok(state)
    }
}

/// A file that is read twice is kept in memory where its thread's share allows it.
fn held(blob: Arc<dyn Blob>, cx: &Context) -> Arc<dyn Blob> {
    let share = cx.limits.memory / (cx.pool().current_num_threads().max(1) as u64).saturating_mul(4);
    if blob.local_path().is_some() || blob.len() > share {
        return blob;
    }
    match blob.bytes(0..blob.len()) {
        Ok(bytes) => Arc::new(recovery_core::MemBlob::new(blob.name().to_owned(), bytes)),
        // The pass says what is wrong, chunk by chunk.
        Err(_) => blob,
    }
}

/// Bytes before the footer that no page claims; pages tile a segment.
fn uncovered(spans: &[Span], footer: u64) -> u64 {
    let mut at = 0u64;
    let mut gap = 0u64;
    for span in spans {
        gap = gap.saturating_add(span.offset.saturating_sub(at));
        at = at.max(span.offset.saturating_add(span.size));
    }
    gap.saturating_add(footer.saturating_sub(at))
}

/// Where the chunk that begins at `at` ends, and the first page that it does not hold whole.
fn chunk_end(spans: &[Span], next: usize, at: u64, len: u64, (chunk, most): (u64, u64)) -> (u64, usize) {
    let soft = at.saturating_add(chunk).min(len);
    let mut until = next;
    let mut end = at;
    while let Some(span) = spans.get(until) {
        let stop = span.offset.saturating_add(span.size).min(len);
        if stop > soft && until > next {
            break;
        }
        if stop.saturating_sub(at) > most.max(chunk) {
            break;
        }
        until = until.saturating_add(1);
        end = end.max(stop);
        if end >= soft {
            break;
        }
    }
    if spans.get(until).is_none_or(|s| s.offset >= soft) {
        end = end.max(soft);
    }
    // A page too large to be held is passed over in pieces; the map refuses such a page before.
    if end <= at { (soft, until) } else { (end, until) }
}

fn check_span(span: &Span, at: u64, bytes: &[u8], state: &mut FileState) {
    let Some(segment) = &mut state.segment else { return };
    let from = span.offset.checked_sub(at).and_then(|n| usize::try_from(n).ok());
    let size = usize::try_from(span.size).ok();
    let page = from.zip(size).and_then(|(from, size)| bytes.get(from..from.checked_add(size)?));
    let Some((body, stored)) = page.and_then(|p| p.split_last_chunk::<4>()) else { return };
    segment.pages = segment.pages.saturating_add(1);
    let (stored, computed) = (u32::from_le_bytes(*stored), pages::crc32c(body));
    if stored != computed {
        segment.bad.push(BadPage {
            offset: span.offset,
            size: span.size,
            what: span.what.clone(),
            column: span.column,
            rows: span.rows,
            data: span.data,
            stored,
            computed,
        });
    } else if let Some(complaint) = span.rows.and_then(|rows| miscounted(body, rows)) {
        segment.lost_columns.push(format!("{}: the page at {:#x} {complaint}", span.what, span.offset));
    }
}

/// What a data page says of its rows, where that is not what its index says.
fn miscounted(body: &[u8], (first, rows): (u64, u64)) -> Option<String> {
    let (rest, length) = body.split_last_chunk::<4>()?;
    let at = rest.len().checked_sub(usize::try_from(u32::from_le_bytes(*length)).ok()?);
    let footer = at.and_then(|at| PageFooter::decode(rest.get(at..)?).ok());
    let Some(data) = footer.filter(|f| f.kind == page_kind::DATA).and_then(|f| f.data) else {
        return Some("is no data page".to_owned());
    };
    (data.first_ordinal != first || data.num_values != rows).then(|| {
        format!("holds {} rows from row {}, its index says {rows} from {first}", data.num_values, data.first_ordinal)
    })
}

/// A chunk that failed: its pages one by one, once, so that one bad sector costs one page.
fn again(blob: &dyn Blob, span: &Span, state: &mut FileState) {
    if let Ok(bytes) = blob.bytes(span.offset..span.offset.saturating_add(span.size)) {
        check_span(span, span.offset, &bytes, state);
    } else if let Some(segment) = &mut state.segment {
        segment.pages = segment.pages.saturating_add(1);
        segment.bad.push(BadPage {
            offset: span.offset,
            size: span.size,
            what: span.what.clone(),
            column: span.column,
            rows: span.rows,
            data: span.data,
            stored: 0,
            computed: 0,
        });
    }
}

fn unreadable(state: &mut FileState, at: u64, end: u64, e: &ReadError) {
    state.unreadable.push((at, end.saturating_sub(at), e.message.clone()));
}
