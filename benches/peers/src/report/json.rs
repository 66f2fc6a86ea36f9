//! Everything that was measured, and the figures of the tables, as JSON.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::rows::ROWS;
use crate::campaign::Results;
use crate::engines::Result;

pub fn write(results: &Results, path: &Path) -> Result<()> {
    let figures: Vec<Value> = ROWS
        .iter()
        .filter_map(|row| {
            let engines: Map<String, Value> = results
                .engines
                .iter()
                .filter_map(|(name, measured)| {
                    let figure = row.of(measured)?;
                    let figure = json!({
                        "median": figure.median,
                        "min": figure.least,
                        "max": figure.most,
                    });
                    Some((name.clone(), figure))
                })
                .collect();
            (!engines.is_empty()).then(|| {
                json!({
                    "table": format!("{:?}", row.group),
                    "phase": row.phase,
                    "label": row.label,
                    "unit": row.unit,
                    "engines": engines,
                    "ratio_to_best_of_redb_lmdb_fjall": row.ratio(results),
                })
            })
        })
        .collect();
    let all = json!({ "figures": figures, "results": results });
    fs::write(path, serde_json::to_string_pretty(&all)?)
        .map_err(|error| format!("{}: {error}", path.display()).into())
}
