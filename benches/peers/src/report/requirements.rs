//! What is required of this store, by medians: against redb, LMDB and fjall, and of transactions beside
//! each other against those that have such.

use super::rows::{Group, RIVALS, ROWS, Row};
use super::table::short;
use crate::campaign::Results;

/// What a figure must not exceed.
enum Limit {
    /// So many times the best of the three rivals.
    Best(f64),
    /// Less than each of the three rivals.
    Ahead,
    /// Less than each of these.
    AheadOf(&'static [&'static str]),
    /// So many times LMDB's.
    Lmdb(f64),
    /// The number itself.
    Most(f64),
}

/// Those that have transactions beside each other.
const BESIDE: [&str; 2] = ["fjall", "canopydb"];

const REQUIRED: &[(Group, &str, &str, Limit)] = &[
    (
        Group::Time,
        "singles",
        "durable single puts",
        Limit::Best(1.2),
    ),
    (
        Group::Time,
        "batches",
        "durable batches of 1,000 puts",
        Limit::Best(1.2),
    ),
    (Group::Time, "load", "bulk load, random order", Limit::Ahead),
    (
        Group::Time,
        "updates",
        "random updates in durable batches, and close",
        Limit::Ahead,
    ),
    (
        Group::Time,
        "removal",
        "removal of half, one transaction",
        Limit::Ahead,
    ),
    (
        Group::Time,
        "unsynced",
        "single puts, not synced",
        Limit::Ahead,
    ),
    (
        Group::Time,
        "transactions-few-conflicts",
        "transactions on 2 threads, few conflicts",
        Limit::AheadOf(&BESIDE),
    ),
    (
        Group::Time,
        "transactions-many-conflicts",
        "transactions on 2 threads, many conflicts",
        Limit::AheadOf(&BESIDE),
    ),
    (Group::Time, "reads", "random reads", Limit::Lmdb(1.5)),
    (Group::Time, "ranges", "ranges of 10", Limit::Lmdb(1.5)),
    (
        Group::Time,
        "ranges-backward",
        "ranges of 10, backward",
        Limit::Lmdb(1.5),
    ),
    (
        Group::Size,
        "load",
        "after the bulk load, length",
        Limit::Most(1.3),
    ),
    (
        Group::Size,
        "compact",
        "after giving space back, length",
        Limit::Most(1.15),
    ),
    (
        Group::Memory,
        "small-memory",
        "bulk load with 64 MiB",
        Limit::Most(192.0),
    ),
];

fn row(group: Group, phase: &str, label: &str) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.group == group && row.phase == phase && row.label == label)
}

/// Tells each requirement and whether it holds; gives whether all do. One that was not measured
/// does not hold.
pub fn hold(results: &Results) -> bool {
    let mut all = true;
    for (group, phase, label, limit) in REQUIRED {
        let judged = row(*group, phase, label).and_then(|row| judge(results, row, limit));
        let (holds, text) = judged.unwrap_or((false, "not measured".to_owned()));
        let verdict = if holds { "pass" } else { "MISS" };
        println!("{verdict}  {label}: {text}");
        all &= holds;
    }
    all
}

fn judge(results: &Results, row: &Row, limit: &Limit) -> Option<(bool, String)> {
    let own = row.of(results.engine("thunderhead")?)?.median;
    let unit = row.unit;
    let against = |name: &str| Some(row.of(results.engine(name)?)?.median);
    // All have to be there: the best of two is not the best of three.
    let rivals: &[&str] = match limit {
        Limit::AheadOf(rivals) => rivals,
        _ => &RIVALS,
    };
    let rivals: Option<Vec<(f64, &str)>> = rivals
        .iter()
        .map(|name| Some((against(name)?, *name)))
        .collect();
    let best = |rivals: Vec<(f64, &'static str)>| {
        rivals
            .into_iter()
            .min_by(|first, second| first.0.total_cmp(&second.0))
    };
    let (bound, text) = match limit {
        Limit::Most(most) => (*most, format!("at most {} {unit}", short(*most))),
        Limit::Lmdb(times) => {
            let lmdb = against("lmdb")?;
            let text = format!("at most {times} × LMDB's {}", short(lmdb));
            (times * lmdb, text)
        }
        Limit::Best(times) => {
            let (best, name) = best(rivals?)?;
            let text = format!("at most {times} × the best, {name}'s {}", short(best));
            (times * best, text)
        }
        Limit::Ahead | Limit::AheadOf(_) => {
            let (best, name) = best(rivals?)?;
            return Some((
                own < best,
                format!(
                    "{} {unit}, less than the best, {name}'s {}",
                    short(own),
                    short(best)
                ),
            ));
        }
    };
    Some((own <= bound, format!("{} {unit}, {text}", short(own))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_requirement_is_of_a_row() {
        for (group, phase, label, _) in REQUIRED {
            assert!(row(*group, phase, label).is_some(), "{label}");
        }
    }
}
