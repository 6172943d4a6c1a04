//! PERCENTILE values: a t-digest.
//!
//! ```text
//! u8 0 | f32 compression, min, max | u64 max processed, max unprocessed | f32 processed weight, unprocessed weight
//! u32 n, n x (f32 mean, f32 weight) processed | the same unprocessed | u32 n, n x f32 cumulative
//! ```
//! Eleven bytes without meaning may follow, as the engine's size estimate is larger than its content.
//! Source: `be/src/types/percentile_value.h`, `be/src/util/tdigest.cpp`.

use recovery_core::{Cursor, Short};

use super::super::fault::Fault;

const WHAT: &str = "PERCENTILE value";

/// A centroid: the mean of `weight` points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Centroid {
    /// Mean.
    pub mean: f32,
    /// Points.
    pub weight: f32,
}

/// A decoded PERCENTILE value.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentile {
    /// Compression the digest was made with.
    pub compression: f32,
    /// Smallest point.
    pub min: f32,
    /// Largest point.
    pub max: f32,
    /// Centroids the engine keeps before it compresses again.
    pub max_processed: u64,
    /// Points it collects before it compresses.
    pub max_unprocessed: u64,
    /// Compressed centroids.
    pub processed: Vec<Centroid>,
    /// Points not compressed yet.
    pub unprocessed: Vec<Centroid>,
    /// Cumulative weights of the processed centroids.
    pub cumulative: Vec<f32>,
}

fn f32_le(c: &mut Cursor<'_>) -> Result<f32, Short> {
    c.array::<4>(WHAT).map(f32::from_le_bytes)
}

fn list<T>(
    c: &mut Cursor<'_>,
    width: usize,
    mut item: impl FnMut(&mut Cursor<'_>) -> Result<T, Short>,
) -> Result<Vec<T>, Fault> {
    let n = c.u32_le(WHAT)? as usize;
    let mut items = c.window(n.saturating_mul(width), WHAT)?;
    let mut out = Vec::with_capacity(n);
    while !items.is_empty() {
        out.push(item(&mut items)?);
    }
    Ok(out)
}

fn centroid(c: &mut Cursor<'_>) -> Result<Centroid, Short> {
    Ok(Centroid { mean: f32_le(c)?, weight: f32_le(c)? })
}

impl Percentile {
    /// Decodes a stored value.
    ///
    /// # Errors
    ///
    /// When it ends before its lists do.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut c = Cursor::new(bytes, 0);
        let kind = c.u8(WHAT)?;
        if kind != 0 {
            return Err(Fault::value(WHAT, 0, format!("kind {kind}")));
        }
        let (compression, min, max) = (f32_le(&mut c)?, f32_le(&mut c)?, f32_le(&mut c)?);
        let (max_processed, max_unprocessed) = (c.u64_le(WHAT)?, c.u64_le(WHAT)?);
        let _weights = (f32_le(&mut c)?, f32_le(&mut c)?);
        let processed = list(&mut c, 8, centroid)?;
        let unprocessed = list(&mut c, 8, centroid)?;
        let cumulative = list(&mut c, 4, f32_le)?;
        Ok(Self { compression, min, max, max_processed, max_unprocessed, processed, unprocessed, cumulative })
    }

    /// Encodes the value, without trailing bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0];
        let float = |out: &mut Vec<u8>, x: f32| out.extend_from_slice(&x.to_le_bytes());
        let weight = |list: &[Centroid]| list.iter().map(|c| c.weight).sum::<f32>();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        [self.compression, self.min, self.max].into_iter().for_each(|x| float(&mut out, x));
        out.extend_from_slice(&self.max_processed.to_le_bytes());
        out.extend_from_slice(&self.max_unprocessed.to_le_bytes());
        float(&mut out, weight(&self.processed));
        float(&mut out, weight(&self.unprocessed));
        for list in [&self.processed, &self.unprocessed] {
            out.extend_from_slice(&count(list.len()));
            for c in list {
                float(&mut out, c.mean);
                float(&mut out, c.weight);
            }
        }
        out.extend_from_slice(&count(self.cumulative.len()));
        self.cumulative.iter().for_each(|x| float(&mut out, *x));
        out
    }

    /// Adds the points of `other`, as points not compressed yet: nothing is lost, and the engine compresses them when
    /// it next works on the value.
    pub fn union(&mut self, other: &Self) {
        if other.count() > 0.0 {
            let empty = self.count() == 0.0;
            self.min = if empty { other.min } else { self.min.min(other.min) };
            self.max = if empty { other.max } else { self.max.max(other.max) };
        }
        self.unprocessed.extend(other.processed.iter().chain(&other.unprocessed));
    }

    /// Points seen.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.processed.iter().chain(&self.unprocessed).map(|c| f64::from(c.weight)).sum()
    }

    /// Smallest and largest point seen, also where the digest has not been compressed yet.
    fn bounds(&self) -> (f64, f64) {
        let means = || self.processed.iter().chain(&self.unprocessed).map(|c| f64::from(c.mean));
        let min = means().fold(f64::from(self.min), f64::min);
        let max = means().fold(f64::from(self.max), f64::max);
        let fallback = |x: f64, all: f64| if x.abs() >= f64::from(f32::MAX) { all } else { x };
        (fallback(min, means().fold(f64::INFINITY, f64::min)), fallback(max, means().fold(f64::NEG_INFINITY, f64::max)))
    }

    /// The value below which the share `q` (0 to 1) of the points lies; `None` when there are no points.
    ///
    /// Interpolates between the middles of neighbouring centroids, as t-digests do.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let mut all: Vec<(f64, f64)> = self
            .processed
            .iter()
            .chain(&self.unprocessed)
            .filter(|c| c.mean.is_finite() && c.weight > 0.0)
            .map(|c| (f64::from(c.mean), f64::from(c.weight)))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = all.iter().map(|c| c.1).sum();
        if all.is_empty() || total <= 0.0 {
            return None;
        }
        let (min, max) = self.bounds();
        let wanted = q.clamp(0.0, 1.0) * total;
        let (mut seen, mut before) = (0.0, (0.0, min));
        for (mean, weight) in all {
            let middle = seen + weight / 2.0;
            if wanted <= middle {
                let span = middle - before.0;
                let share = if span > 0.0 { (wanted - before.0) / span } else { 1.0 };
                return Some(before.1 + (mean - before.1) * share);
            }
            before = (middle, mean);
            seen += weight;
        }
        let span = total - before.0;
        let share = if span > 0.0 { (wanted - before.0) / span } else { 1.0 };
        Some(before.1 + (max - before.1) * share)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation
    )]
    use super::*;

    fn digest(points: std::ops::Range<u32>) -> Percentile {
        let unprocessed: Vec<Centroid> = points.clone().map(|p| Centroid { mean: p as f32, weight: 1.0 }).collect();
        Percentile {
            compression: 2048.0,
            min: points.start as f32,
            max: (points.end - 1) as f32,
            max_processed: 4096,
            max_unprocessed: 16_384,
            processed: vec![],
            unprocessed,
            cumulative: vec![],
        }
    }

    #[test]
    fn union_and_quantiles() {
        let mut all = digest(0..500);
        all.union(&digest(500..1001));
        assert_eq!(all.count(), 1001.0);
        let median = all.quantile(0.5).unwrap();
        assert!((median - 500.0).abs() < 1.0, "{median}");
        assert_eq!(all.quantile(1.0), Some(1000.0));
        let mut bytes = all.encode();
        bytes.extend_from_slice(&[0xEE; 11]);
        assert_eq!(Percentile::decode(&bytes).unwrap(), all);
        assert!(Percentile::decode(&bytes[..50]).is_err());
    }
}
