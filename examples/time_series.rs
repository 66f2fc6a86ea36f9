//! A time series: measurements by sensor and time, questions about spans, and retention.
//!
//! `cargo run --release --example time_series`
//!
//! Keys are tuples, encoded so that they sort by sensor, then by time: a span of one sensor is a
//! range. What is too old goes by `delete_range`, which costs the same for ten measurements and for
//! ten million.

use std::error::Error;

use thunderhead::typed::{decode_key, encode_key, prefix_of};
use thunderhead::{Durability, Options, Prefix, Store};

const SENSORS: [&str; 4] = ["attic", "cellar", "kitchen", "kitchen-window"];
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// Sensor, and seconds since the beginning.
type Key = (String, u64);

/// A plausible temperature: colder at night, and colder in the cellar.
fn measured(sensor: usize, time: u64) -> f64 {
    let hour = (time % DAY) as f64 / 3600.0;
    let warm = ((hour - 14.0) / 24.0 * std::f64::consts::TAU).cos();
    18.0 - 3.0 * sensor as f64 + 4.0 * warm
}

/// The mean over a span, without holding it in memory.
fn mean(store: &Store, sensor: &str, from: u64, to: u64) -> thunderhead::Result<Option<f64>> {
    let mut span = store.range(encode_key(&(sensor, from))..encode_key(&(sensor, to)));
    let (mut sum, mut count) = (0.0, 0);
    let number = |value: &[u8]| value.try_into().map_or(f64::NAN, f64::from_le_bytes);
    while let Some(value) = span.next_with(|_, value| number(value)).wait()? {
        sum += value;
        count += 1;
    }
    Ok((count > 0).then(|| sum / f64::from(count)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    // Measurements of the last tenth of a second may be lost by a crash: nobody waits for each.
    let options = Options::new().durability(Durability::Deferred);
    let store = options.create(place.path().join("series"))?;

    for day in 0..30 {
        for minute in 0..24 * 60 {
            let time = day * DAY + minute * MINUTE;
            let mut batch = store.batch();
            for (number, sensor) in SENSORS.iter().enumerate() {
                let value = measured(number, time).to_le_bytes();
                batch.put(encode_key(&(sensor, time)), value).wait()?;
            }
            batch.commit().wait()?;
        }
        // Thirteen days are enough. One operation for each sensor, whatever it deletes.
        if let Some(oldest) = (day * DAY).checked_sub(12 * DAY) {
            for sensor in SENSORS {
                let old = prefix_of(&(sensor,))..encode_key(&(sensor, oldest));
                store.delete_range(old).wait()?;
            }
        }
    }

    for sensor in SENSORS {
        // Other sensors whose names begin the same are no part of this prefix.
        let all = Prefix(prefix_of(&(sensor,)));
        let count = store.count(&all).wait()?;
        assert_eq!(count, 13 * 24 * 60);
        let newest = store
            .prefix(all.0)
            .next_back()
            .ok_or("nothing measured")??;
        let (_, time): Key = decode_key(&newest.0)?;
        let night = mean(&store, sensor, 29 * DAY, 29 * DAY + DAY / 4)?;
        let noon = mean(&store, sensor, 29 * DAY + DAY / 2, 30 * DAY)?;
        println!(
            "{sensor}: {count} measurements until day {}, {:.1} °C at night, {:.1} °C in the afternoon",
            time / DAY,
            night.ok_or("no nights")?,
            noon.ok_or("no afternoons")?,
        );
    }
    assert_eq!(mean(&store, "attic", 0, 17 * DAY)?, None);
    store.close().wait()?;
    Ok(())
}
