//! The rows of all reports: which figure of which phase, in which unit.

use std::collections::BTreeMap;

use crate::campaign::{Measured, Results};

type Metrics = BTreeMap<String, f64>;

/// In which table a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Time,
    Latency,
    Written,
    Size,
    Memory,
    Processor,
}

/// A figure; less is better in all of them.
pub struct Row {
    pub group: Group,
    pub phase: &'static str,
    pub label: &'static str,
    pub unit: &'static str,
    pub figure: fn(&Metrics) -> Option<f64>,
}

fn ratio(metrics: &Metrics, above: &str, below: &str) -> Option<f64> {
    Some(metrics.get(above)? / metrics.get(below).filter(|&&below| below > 0.0)?)
}

fn seconds(metrics: &Metrics) -> Option<f64> {
    metrics.get("seconds").copied()
}

fn milliseconds(metrics: &Metrics) -> Option<f64> {
    Some(seconds(metrics)? * 1e3)
}

fn each(metrics: &Metrics) -> Option<f64> {
    Some(ratio(metrics, "seconds", "operations")? * 1e6)
}

fn processor_seconds(metrics: &Metrics) -> Option<f64> {
    metrics.get("cpu_seconds").copied()
}

fn written(metrics: &Metrics) -> Option<f64> {
    ratio(metrics, "written_bytes", "raw_bytes")
}

fn length_to_raw(metrics: &Metrics) -> Option<f64> {
    ratio(metrics, "length_bytes", "raw_bytes")
}

fn blocks_to_raw(metrics: &Metrics) -> Option<f64> {
    ratio(metrics, "block_bytes", "raw_bytes")
}

fn length_to_live(metrics: &Metrics) -> Option<f64> {
    ratio(metrics, "length_bytes", "live_bytes")
}

fn blocks_to_live(metrics: &Metrics) -> Option<f64> {
    ratio(metrics, "block_bytes", "live_bytes")
}

fn peak(metrics: &Metrics) -> Option<f64> {
    Some(metrics.get("peak_bytes")? / (1 << 20) as f64)
}

fn anonymous_peak(metrics: &Metrics) -> Option<f64> {
    Some(metrics.get("peak_anonymous_bytes")? / (1 << 20) as f64)
}

macro_rules! rows {
    ($($group:ident $phase:literal $label:literal $unit:literal $figure:expr;)*) => {
        pub const ROWS: &[Row] = &[$(Row {
            group: Group::$group,
            phase: $phase,
            label: $label,
            unit: $unit,
            figure: $figure,
        }),*];
    };
}

rows! {
    Time "load" "bulk load, random order" "s" seconds;
    Time "load-sorted" "bulk load, sorted" "s" seconds;
    Time "singles" "durable single puts" "µs each" each;
    Time "batches" "durable batches of 1,000 puts" "µs a put" each;
    Time "unsynced" "single puts, not synced" "µs each" each;
    Time "deferred" "single puts, kept in memory" "µs each" each;
    Time "count" "`len`" "ms" milliseconds;
    Time "reads" "random reads" "µs each" each;
    Time "misses" "reads of absent keys" "µs each" each;
    Time "ranges" "ranges of 10" "µs each" each;
    Time "ranges-backward" "ranges of 10, backward" "µs each" each;
    Time "scan" "all entries" "µs each" each;
    Time "scan-backward" "all entries, backward" "µs each" each;
    Time "reads-2" "random reads, 2 threads" "µs each" each;
    Time "reads-4" "random reads, 4 threads" "µs each" each;
    Time "reads-8" "random reads, 8 threads" "µs each" each;
    Time "updates" "random updates in durable batches, and close" "s" seconds;
    Time "reopen" "open after a close, and a read" "ms" milliseconds;
    Time "mixed" "half reads, half puts not synced, Zipf" "µs each" each;
    Time "transactions-few-conflicts" "transactions on 2 threads, few conflicts" "µs each" each;
    Time "transactions-many-conflicts" "transactions on 2 threads, many conflicts" "µs each" each;
    Time "saves" "keeping a version, durably" "µs each" |metrics| metrics.get("save_us").copied();
    Time "removal" "removal of half, one transaction" "s" seconds;
    Time "delete-range" "delete of a third as a range" "ms" milliseconds;
    Time "compact" "giving space back" "s" seconds;
    Time "reopen-killed" "open after a kill, and a read" "ms" milliseconds;
    Time "paths-load" "paths: batches of 10,000" "s" seconds;
    Time "paths-reads" "paths: random reads" "µs each" each;
    Time "paths-scan" "paths: all entries" "µs each" each;
    Time "large-1-write" "1 MiB values: durable put" "ms each" |metrics| Some(each(metrics)? / 1e3);
    Time "large-1-read" "1 MiB values: read" "ms each" |metrics| Some(each(metrics)? / 1e3);
    Time "large-1-part" "1 MiB values: 4 KiB of one" "µs each" each;
    Time "large-64-write" "64 MiB values: durable put" "ms each" |metrics| Some(each(metrics)? / 1e3);
    Time "large-64-read" "64 MiB values: read" "ms each" |metrics| Some(each(metrics)? / 1e3);
    Time "large-64-part" "64 MiB values: 4 KiB of one" "µs each" each;
    Time "small-memory" "bulk load with 64 MiB" "s" seconds;
    Latency "latency" "p50" "µs" |metrics| metrics.get("p50_us").copied();
    Latency "latency" "p99" "µs" |metrics| metrics.get("p99_us").copied();
    Latency "latency" "p99.9" "µs" |metrics| metrics.get("p999_us").copied();
    Latency "latency" "worst" "µs" |metrics| metrics.get("worst_us").copied();
    Latency "latency" "a bare write and sync, p50" "µs" |metrics| metrics.get("bare_p50_us").copied();
    Latency "latency" "a bare write and sync, p99" "µs" |metrics| metrics.get("bare_p99_us").copied();
    Latency "latency" "p50 to a bare write and sync" "×" |metrics| ratio(metrics, "p50_us", "bare_p50_us");
    Latency "latency" "p99 to a bare write and sync" "×" |metrics| ratio(metrics, "p99_us", "bare_p99_us");
    Latency "latency" "p99.9 to a bare write and sync" "×" |metrics| ratio(metrics, "p999_us", "bare_p999_us");
    Written "load" "bulk load, random order" "× data" written;
    Written "load-sorted" "bulk load, sorted" "× data" written;
    Written "updates" "random updates in durable batches, and close" "× data" written;
    Written "paths-load" "paths: batches of 10,000" "× data" written;
    Written "large-1-write" "1 MiB values" "× data" written;
    Written "large-64-write" "64 MiB values" "× data" written;
    Size "load" "after the bulk load, length" "× raw" length_to_raw;
    Size "load" "after the bulk load, blocks" "× raw" blocks_to_raw;
    Size "load-sorted" "after the sorted load, length" "× raw" length_to_raw;
    Size "updates" "after the updates, length" "× live" length_to_live;
    Size "updates" "after the updates, blocks" "× live" blocks_to_live;
    Size "removal" "after the removal of half, length" "× live" length_to_live;
    Size "delete-range" "after the delete of a third, length" "× live" length_to_live;
    Size "compact" "after giving space back, length" "× live" length_to_live;
    Size "compact" "after giving space back, blocks" "× live" blocks_to_live;
    Size "paths-load" "paths, length" "× raw" length_to_raw;
    Size "large-1-write" "1 MiB values, length" "× raw" length_to_raw;
    Memory "load" "bulk load" "MiB" peak;
    Memory "load" "bulk load, without mapped files" "MiB" anonymous_peak;
    Memory "reads" "random reads" "MiB" peak;
    Memory "reads" "random reads, without mapped files" "MiB" anonymous_peak;
    Memory "updates" "random updates" "MiB" peak;
    Memory "removal" "removal of half" "MiB" peak;
    Memory "compact" "giving space back" "MiB" peak;
    Memory "large-64-write" "64 MiB values: put" "MiB" peak;
    Memory "small-memory" "bulk load with 64 MiB" "MiB" peak;
    Memory "small-memory" "bulk load with 64 MiB, without mapped files" "MiB" anonymous_peak;
    Processor "load" "bulk load, random order" "s" processor_seconds;
    Processor "load-sorted" "bulk load, sorted" "s" processor_seconds;
    Processor "singles" "durable single puts" "s" processor_seconds;
    Processor "batches" "durable batches of 1,000 puts" "s" processor_seconds;
    Processor "unsynced" "single puts, not synced" "s" processor_seconds;
    Processor "deferred" "single puts, kept in memory" "s" processor_seconds;
    Processor "count" "`len`" "s" processor_seconds;
    Processor "reads" "random reads" "s" processor_seconds;
    Processor "misses" "reads of absent keys" "s" processor_seconds;
    Processor "ranges" "ranges of 10" "s" processor_seconds;
    Processor "ranges-backward" "ranges of 10, backward" "s" processor_seconds;
    Processor "scan" "all entries" "s" processor_seconds;
    Processor "scan-backward" "all entries, backward" "s" processor_seconds;
    Processor "reads-2" "random reads, 2 threads" "s" processor_seconds;
    Processor "reads-4" "random reads, 4 threads" "s" processor_seconds;
    Processor "reads-8" "random reads, 8 threads" "s" processor_seconds;
    Processor "updates" "random updates in durable batches, and close" "s" processor_seconds;
    Processor "reopen" "open after a close, and a read" "s" processor_seconds;
    Processor "mixed" "half reads, half puts not synced, Zipf" "s" processor_seconds;
    Processor "transactions-few-conflicts" "transactions on 2 threads, few conflicts" "s" processor_seconds;
    Processor "transactions-many-conflicts" "transactions on 2 threads, many conflicts" "s" processor_seconds;
    Processor "removal" "removal of half, one transaction" "s" processor_seconds;
    Processor "delete-range" "delete of a third as a range" "s" processor_seconds;
    Processor "compact" "giving space back" "s" processor_seconds;
    Processor "reopen-killed" "open after a kill, and a read" "s" processor_seconds;
    Processor "paths-load" "paths: batches of 10,000" "s" processor_seconds;
    Processor "paths-reads" "paths: random reads" "s" processor_seconds;
    Processor "paths-scan" "paths: all entries" "s" processor_seconds;
    Processor "small-memory" "bulk load with 64 MiB" "s" processor_seconds;
}

/// What repetitions gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Row {
    pub fn of(&self, measured: &Measured) -> Option<Figure> {
        let outcomes = measured.phases.get(self.phase)?;
        let mut figures: Vec<f64> = outcomes
            .iter()
            .filter(|outcome| outcome.error.is_none())
            .filter_map(|outcome| (self.figure)(&outcome.metrics))
            .collect();
        figures.sort_unstable_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = match figures.len() % 2 {
            0 => (figures.get(middle.checked_sub(1)?)? + figures.get(middle)?) / 2.0,
            _ => *figures.get(middle)?,
        };
        Some(Figure {
            median,
            least: *figures.first()?,
            most: *figures.last()?,
        })
    }

    /// Whether this is of the disk, and no engine's merit.
    pub fn is_of_the_disk(&self) -> bool {
        self.group == Group::Latency && self.label.starts_with("a bare")
    }

    /// The least of the medians of some engines.
    pub fn best<'e>(
        &self,
        results: &Results,
        engines: impl IntoIterator<Item = &'e str>,
    ) -> Option<f64> {
        if self.is_of_the_disk() {
            return None;
        }
        engines
            .into_iter()
            .filter_map(|name| Some(self.of(results.engine(name)?)?.median))
            .min_by(f64::total_cmp)
    }

    /// This store's figure to the best of the three that it is measured against first.
    pub fn ratio(&self, results: &Results) -> Option<f64> {
        let own = self.of(results.engine("thunderhead")?)?.median;
        let best = self.best(results, RIVALS).filter(|&best| best > 0.0)?;
        Some(own / best)
    }
}

/// Those that the last column and the requirements compare with.
pub const RIVALS: [&str; 3] = ["redb", "lmdb", "fjall"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases;

    #[test]
    fn every_row_is_of_a_phase_and_every_phase_has_a_row() {
        for row in ROWS {
            assert!(
                phases::names().any(|phase| phase == row.phase),
                "{}",
                row.phase
            );
        }
        for phase in phases::names() {
            assert!(ROWS.iter().any(|row| row.phase == phase), "{phase}");
        }
    }
}
