//! The content of an image: header, blocks and their JSON, read once from front to back.
//!
//! | era | form |
//! |---|---|
//! | Doris from 1.2 on | see [`doris`](mod@super::doris) |
//! | before StarRocks 3.0, and Doris before | meta version (from StarRocks 2.x on: -1 and two versions), i64 journal id, i64 highest id in use, u8; then modules in binary forms with sums of their own, which are not read |
//! | StarRocks 3.0 | meta version, header, blocks: each a header with its id and number of values, values, and a footer with the CRC-32 of everything before it in the block. All are JSON texts preceded by their length (big-endian) |
//! | StarRocks 3.4, second form | meta version, header, then JSON values without lengths: the header of a block and its values. The CRC-32 of the whole file lies beside it in `checksum.N` |
//!
//! Members are read by name, unknown ones are kept. Upstream: `persist/metablock/SRMetaBlockWriter`,
//! `SRMetaBlockReader`, `persist/ImageFormatVersion`, `persist/ImageHeader`.

use std::io::{self, BufReader, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use recovery_core::{Blob, Context, Result};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::doris;

/// Bytes read at a time.
const CHUNK: u64 = 1 << 20;
/// Largest header of an image or of a block, and largest footer.
const MAX_HEADER: u64 = 1 << 20;

/// Meta versions that frontends have written so far are far below.
const MAX_VERSION: i32 = 100_000;
/// Longest name of a host.
const MAX_HOST: u64 = 255;

/// Names of blocks (`persist/metablock/SRMetaBlockID`).
const NAMES: &[(i64, &str)] = &[
    (1, "node manager"),
    (2, "local metastore"),
    (3, "alter"),
    (4, "catalog recycle bin"),
    (5, "variables"),
    (6, "resources"),
    (7, "export"),
    (8, "backup"),
    (9, "auth"),
    (10, "transactions"),
    (11, "colocate tables"),
    (12, "routine load"),
    (13, "load"),
    (14, "small files"),
    (15, "plugins"),
    (16, "delete"),
    (17, "analyze"),
    (18, "resource groups"),
    (19, "authentication"),
    (20, "authorization"),
    (21, "tasks"),
    (22, "catalogs"),
    (23, "insert overwrite"),
    (24, "compaction"),
    (25, "stream load"),
    (26, "materialized views"),
    (27, "functions"),
    (28, "storage volumes"),
    (29, "dictionaries"),
    (30, "replication"),
];

/// Form of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Modules in binary forms.
    Old,
    /// Modules in binary forms, with an index.
    Doris,
    /// Blocks of texts with lengths.
    V1,
    /// Blocks of plain JSON.
    V2,
}

/// What stands before the blocks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Head {
    /// Form.
    pub form: Form,
    /// Meta version: the product's own where there are two.
    pub meta_version: i32,
    /// Meta version of the community's code, where it stands beside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community_version: Option<i32>,
    /// Journal id up to which the image holds the state; only old images say it themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_id: Option<i64>,
    /// End of the batch of ids that were in use; only in old images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_end_id: Option<i64>,
    /// Host of the leader that wrote it; only in old images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Header.
    pub header: Value,
}

/// A block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Block {
    /// First byte.
    pub offset: u64,
    /// Bytes, header and footer included, as far as they were read.
    pub bytes: u64,
    /// Number, by which frontends tell blocks.
    #[serde(rename = "block")]
    pub id: Option<i64>,
    /// Name.
    pub name: String,
    /// Values that its header announces.
    pub announced: u64,
    /// Values that were read.
    #[serde(rename = "read")]
    pub values: u64,
    /// CRC-32 in its footer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    /// CRC-32 of what was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed: Option<u64>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What is told while an image is read.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// What stands before the blocks.
    Head(&'a Head),
    /// A block begins.
    Begin(&'a Block),
    /// One value of it: its place and its bytes, which are JSON where nothing is damaged.
    Value(u64, &'a [u8]),
    /// The block ended.
    End(&'a Block),
}

/// What was read of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Blocks.
    pub blocks: u64,
    /// Blocks in which something is wrong.
    pub bad: u64,
    /// Why and where the reading ended before the file did.
    pub stopped: Option<(u64, String)>,
    /// CRC-32 of the whole file, of the second form.
    pub sum: Option<u64>,
    /// Whether the form says enough to be checked.
    pub checkable: bool,
}

/// What was read, or place and reason why it cannot be.
pub type Step<T> = std::result::Result<T, (u64, String)>;

fn crc() -> Digest {
    Digest::new(CrcAlgorithm::Crc32IsoHdlc)
}

/// Reads an image. What is wrong with it is in the outcome.
///
/// # Errors
///
/// The first error of `sink`, or that the caller asked to stop.
pub fn read(blob: &dyn Blob, cx: &Context, sink: &mut dyn FnMut(Event<'_>) -> Result<()>) -> Result<Outcome> {
    let mut out = Outcome::default();
    let mut texts = Texts::new(blob, cx);
    let head = match texts.head() {
        Ok(head) => head,
        Err(stop) => {
            out.stopped = Some(stop);
            return Ok(out);
        }
    };
    sink(Event::Head(&head))?;
    match head.form {
        Form::Old => {}
        Form::Doris => match doris::modules(blob, texts.at) {
            Ok((modules, _)) => {
                for b in &modules {
                    sink(Event::Begin(b))?;
                    sink(Event::End(b))?;
                }
                out.blocks = modules.len() as u64;
            }
            Err(stop) => out.stopped = Some(stop),
        },
        Form::V1 => texts.blocks(&mut out, cx, sink)?,
        Form::V2 => plain(blob, texts.at, &mut out, cx, sink)?,
    }
    out.checkable = matches!(head.form, Form::V1 | Form::V2);
    Ok(out)
}

/// What stands before the blocks.
///
/// # Errors
///
/// Place and reason, when it is no image.
pub fn head(blob: &dyn Blob, cx: &Context) -> Step<Head> {
    Texts::new(blob, cx).head()
}

/// Whether a frontend may have written this meta version.
fn known(version: i32, at: u64) -> Step<()> {
    let plausible = (1..=MAX_VERSION).contains(&version);
    if plausible { Ok(()) } else { Err((at, format!("meta version {version}: no image of a frontend"))) }
}

/// Fills in what a block's header says.
fn described(header: &Value, offset: u64) -> Step<Block> {
    let announced = header.get("nj").and_then(Value::as_u64);
    let announced = announced.ok_or_else(|| (offset, "a block's header does not say how many values follow".into()))?;
    let id = header.get("i").and_then(|i| i.get("i").unwrap_or(i).as_i64());
    let own = header.get("n").and_then(Value::as_str).map(str::to_owned);
    let known = NAMES.iter().find(|(n, _)| Some(*n) == id).map(|(_, name)| (*name).to_owned());
    Ok(Block { offset, id, name: own.or(known).unwrap_or_default(), announced, ..Block::default() })
}

/// Texts preceded by their length.
struct Texts<'a> {
    blob: &'a dyn Blob,
    at: u64,
    window: Bytes,
    start: u64,
    sum: Digest,
    limit: u64,
}

impl<'a> Texts<'a> {
    fn new(blob: &'a dyn Blob, cx: &Context) -> Self {
        Self { blob, at: 0, window: Bytes::new(), start: 0, sum: crc(), limit: cx.limits.record }
    }

    /// The bytes at the current place, which is not moved.
    fn peek(&mut self, n: u64) -> Step<Bytes> {
        let left = self.blob.len().saturating_sub(self.at);
        if n > left {
            return Err((self.at, format!("{n} bytes expected, the file ends after {left}")));
        }
        let skip = self.at.wrapping_sub(self.start);
        if skip.checked_add(n).is_none_or(|end| end > self.window.len() as u64) {
            let end = self.at.saturating_add(n.max(CHUNK.min(left)));
            self.window = self.blob.bytes(self.at..end).map_err(|e| (self.at, e.to_string()))?;
            self.start = self.at;
        }
        let skip = usize::try_from(self.at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let end = skip.saturating_add(usize::try_from(n).unwrap_or(usize::MAX));
        let whole = end <= self.window.len();
        whole.then(|| self.window.slice(skip..end)).ok_or_else(|| (self.at, "short read".to_owned()))
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.peek(N as u64)?;
        let array = <[u8; N]>::try_from(bytes.as_ref()).map_err(|_| (self.at, "short read".to_owned()))?;
        self.at = self.at.saturating_add(N as u64);
        Ok(array)
    }

    /// A text, with its length in front; the place is not moved.
    fn text(&mut self, most: u64) -> Step<Bytes> {
        let length = self.peek(4)?;
        let length = i32::from_be_bytes(length.as_ref().try_into().unwrap_or([0xff; 4]));
        let left = self.blob.len().saturating_sub(self.at).saturating_sub(4);
        match u64::try_from(length) {
            Ok(n) if n <= left && n <= most => self.peek(n.saturating_add(4)),
            Ok(n) if n <= left => Err((self.at, format!("a text of {n} bytes, more than {most}"))),
            _ => Err((self.at, format!("a text of {length} bytes, {left} are left"))),
        }
    }

    fn pass(&mut self, text: &Bytes) {
        self.sum.update(text);
        self.at = self.at.saturating_add(text.len() as u64);
    }

    /// A short JSON text; the place is not moved.
    fn json(&mut self, what: &str) -> Step<(Value, Bytes)> {
        let text = self.text(MAX_HEADER)?;
        let value = serde_json::from_slice(text.get(4..).unwrap_or_default());
        value.map(|v| (v, text)).map_err(|e| (self.at, format!("{what}: not JSON: {e}")))
    }

    /// The head; the place is then where the blocks, or the modules of Doris, begin.
    fn head(&mut self) -> Step<Head> {
        let mut head = Head {
            form: Form::V1,
            meta_version: 0,
            community_version: None,
            journal_id: None,
            batch_end_id: None,
            leader: None,
            header: Value::Null,
        };
        if self.peek(4).is_ok_and(|b| b.as_ref() == doris::MAGIC) {
            self.at = self.at.saturating_add(4);
            let (header, text) = self.json("header")?;
            self.pass(&text);
            let modules = self.at;
            (head.form, head.header, head.meta_version) = (Form::Doris, header, self.version()?);
            self.old(&mut head)?;
            self.at = modules;
            return Ok(head);
        }
        head.meta_version = i32::from_be_bytes(self.array()?);
        if head.meta_version == -1 {
            head.community_version = Some(self.version()?);
            head.meta_version = i32::from_be_bytes(self.array()?);
        }
        known(head.meta_version, 0)?;
        if let Ok((header @ Value::Object(_), text)) = self.json("header") {
            head.header = header;
            self.pass(&text);
            // A text begins with its length, a plain value with its first character.
            if self.peek(1).is_ok_and(|b| b.first() == Some(&b'{')) {
                head.form = Form::V2;
            }
            return Ok(head);
        }
        if self.peek(2).is_ok_and(|b| b.first() == Some(&b'{')) {
            head.form = Form::V2;
            return Ok(head);
        }
        head.form = Form::Old;
        self.old(&mut head)?;
        Ok(head)
    }

    fn version(&mut self) -> Step<i32> {
        let at = self.at;
        let version = i32::from_be_bytes(self.array()?);
        known(version, at).map(|()| version)
    }

    /// What old images begin with, behind the meta version.
    fn old(&mut self, head: &mut Head) -> Step<()> {
        let at = self.at;
        let (journal, end) = (i64::from_be_bytes(self.array()?), i64::from_be_bytes(self.array()?));
        let [flag] = self.array()?;
        if journal < 0 || end < 0 || flag > 1 {
            return Err((at, "neither a header nor a journal id: no image of a frontend".to_owned()));
        }
        (head.journal_id, head.batch_end_id) = (Some(journal), Some(end));
        // The next module is the leader's address.
        let host = self.text(MAX_HOST).ok();
        let host = host.and_then(|t| std::str::from_utf8(t.get(4..)?).ok().map(str::to_owned));
        head.leader = host.filter(|h| !h.is_empty() && !h.contains(char::is_control));
        Ok(())
    }

    fn blocks(&mut self, out: &mut Outcome, cx: &Context, sink: &mut dyn FnMut(Event<'_>) -> Result<()>) -> Result<()> {
        while self.at < self.blob.len() {
            cx.cancelled()?;
            self.sum = crc();
            let begun = self.json("block header").and_then(|(h, text)| Ok((described(&h, self.at)?, text)));
            let (mut block, text) = match begun {
                Ok(b) => b,
                Err(stop) => {
                    out.stopped = Some(stop);
                    return Ok(());
                }
            };
            self.pass(&text);
            sink(Event::Begin(&block))?;
            let stop = self.values(&mut block, cx, sink)?;
            block.bytes = self.at.saturating_sub(block.offset);
            if let Some((_, why)) = &stop {
                block.problem = Some(why.clone());
            }
            out.blocks = out.blocks.saturating_add(1);
            out.bad = out.bad.saturating_add(u64::from(block.problem.is_some()));
            sink(Event::End(&block))?;
            if stop.is_some() {
                out.stopped = stop;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Values and footer; why nothing behind them can be read.
    fn values(
        &mut self,
        block: &mut Block,
        cx: &Context,
        sink: &mut dyn FnMut(Event<'_>) -> Result<()>,
    ) -> Result<Option<(u64, String)>> {
        for _ in 0..block.announced {
            cx.cancelled()?;
            let text = match self.text(self.limit) {
                Ok(t) => t,
                Err(stop) => return Ok(Some(stop)),
            };
            sink(Event::Value(self.at, text.get(4..).unwrap_or_default()))?;
            block.values = block.values.saturating_add(1);
            self.pass(&text);
        }
        let computed = std::mem::replace(&mut self.sum, crc()).finalize();
        block.computed = Some(computed);
        let (footer, text) = match self.json("block footer") {
            Ok(f) => f,
            Err(stop) => return Ok(Some(stop)),
        };
        block.stored = footer.get("c").and_then(Value::as_u64);
        block.problem = match block.stored {
            Some(stored) if stored == computed => None,
            Some(stored) => Some(format!("CRC-32 is {computed}, its footer says {stored}")),
            None => Some("its footer holds no checksum".to_owned()),
        };
        self.pass(&text);
        Ok(None)
    }
}

/// Feeds a parser, summing what goes by and bounding what one value may take.
struct Feed<'a> {
    blob: &'a dyn Blob,
    at: u64,
    sum: Digest,
    left: Arc<AtomicU64>,
}

impl io::Read for Feed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left.load(Ordering::Relaxed) == 0 {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "a value is larger than the limit of a record"));
        }
        let n = self.blob.read_at(self.at, buf).map_err(|e| io::Error::new(e.kind, e.to_string()))?;
        self.sum.update(buf.get(..n).unwrap_or_default());
        self.at = self.at.saturating_add(n as u64);
        let left = self.left.load(Ordering::Relaxed).saturating_sub(n as u64);
        self.left.store(left, Ordering::Relaxed);
        Ok(n)
    }
}

/// Blocks of plain JSON values.
fn plain(
    blob: &dyn Blob,
    from: u64,
    out: &mut Outcome,
    cx: &Context,
    sink: &mut dyn FnMut(Event<'_>) -> Result<()>,
) -> Result<()> {
    let limit = cx.limits.record.saturating_add(2 * CHUNK);
    let left = Arc::new(AtomicU64::new(limit));
    let mut feed = Feed { blob, at: 0, sum: crc(), left: Arc::clone(&left) };
    // What stands before the blocks counts in the sum.
    let mut before = vec![0; usize::try_from(from).unwrap_or(0)];
    if let Err(e) = feed.read_exact(&mut before) {
        out.stopped = Some((0, e.to_string()));
        return Ok(());
    }
    let reader = BufReader::with_capacity(usize::try_from(CHUNK).unwrap_or(1 << 20), &mut feed);
    let mut values = serde_json::Deserializer::from_reader(reader).into_iter::<Box<RawValue>>();
    let mut open: Option<Block> = None;
    loop {
        cx.cancelled()?;
        left.store(limit, Ordering::Relaxed);
        let at = from.saturating_add(values.byte_offset() as u64);
        let next = values.next();
        let end = from.saturating_add(values.byte_offset() as u64);
        let value = match next {
            Some(Ok(v)) => v,
            None => break,
            Some(Err(e)) => {
                out.stopped = Some((at, e.to_string()));
                break;
            }
        };
        match &mut open {
            Some(block) if block.values < block.announced => {
                sink(Event::Value(at, value.get().as_bytes()))?;
                block.values = block.values.saturating_add(1);
                block.bytes = end.saturating_sub(block.offset);
            }
            _ => {
                close(open.take(), out, sink)?;
                let parsed = serde_json::from_str(value.get()).map_err(|e| (at, e.to_string()));
                match parsed.and_then(|h| described(&h, at)) {
                    Ok(mut block) => {
                        block.bytes = end.saturating_sub(at);
                        sink(Event::Begin(&block))?;
                        open = Some(block);
                    }
                    Err(stop) => {
                        out.stopped = Some(stop);
                        break;
                    }
                }
            }
        }
    }
    close(open.take(), out, sink)?;
    drop(values);
    left.store(u64::MAX, Ordering::Relaxed);
    let mut rest = vec![0; usize::try_from(CHUNK).unwrap_or(1 << 20)];
    loop {
        cx.cancelled()?;
        match feed.read(&mut rest) {
            Ok(0) => break,
            Ok(_) => left.store(u64::MAX, Ordering::Relaxed),
            Err(e) => {
                out.stopped = out.stopped.take().or(Some((feed.at, e.to_string())));
                return Ok(());
            }
        }
    }
    out.sum = Some(feed.sum.finalize());
    Ok(())
}

fn close(block: Option<Block>, out: &mut Outcome, sink: &mut dyn FnMut(Event<'_>) -> Result<()>) -> Result<()> {
    let Some(mut block) = block else { return Ok(()) };
    if block.values < block.announced {
        block.problem = Some(format!("{} of {} values are there", block.values, block.announced));
    }
    out.blocks = out.blocks.saturating_add(1);
    out.bad = out.bad.saturating_add(u64::from(block.problem.is_some()));
    sink(Event::End(&block))
}
