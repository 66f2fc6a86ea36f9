//! Tables: a row for each figure, a column for each engine, the best marked.

use std::fmt::Write;

use super::rows::{Group, ROWS, Row};
use crate::campaign::Results;
use crate::engines;

/// All tables, one after the other, with notes and failures.
pub fn tables(results: &Results, markdown: bool) -> String {
    let mut text = String::new();
    let mut notes = Notes::default();
    for (group, title) in [
        (Group::Time, "Time on the clock"),
        (
            Group::Latency,
            "Latency of durable single puts while another thread reads",
        ),
        (Group::Written, "Bytes written to a byte of data"),
        (Group::Size, "Size of the files"),
        (Group::Memory, "Peak of memory"),
        (
            Group::Processor,
            "Processor time of the whole phase, all threads",
        ),
    ] {
        let rows: Vec<&Row> = ROWS
            .iter()
            .filter(|row| row.group == group)
            .filter(|row| {
                results
                    .engines
                    .iter()
                    .any(|(_, it)| it.phases.contains_key(row.phase))
            })
            .collect();
        if !rows.is_empty() {
            let cells = cells(results, title, &rows, &mut notes);
            text.push_str(&match markdown {
                true => as_markdown(&cells),
                false => as_text(&cells),
            });
            text.push('\n');
        }
    }
    for (number, note) in notes.0.iter().enumerate() {
        let _ = writeln!(
            text,
            "[{}] {note}{}",
            number + 1,
            if markdown { "  " } else { "" }
        );
    }
    let _ = writeln!(text, "{}", describe(results));
    for (engine, failure) in results.failures() {
        let _ = writeln!(text, "{engine} FAILED: {failure}");
    }
    text
}

#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, note: &str) -> usize {
        match self.0.iter().position(|known| known == note) {
            Some(position) => position + 1,
            None => {
                self.0.push(note.to_owned());
                self.0.len()
            }
        }
    }
}

struct Cell {
    text: String,
    best: bool,
}

impl Cell {
    fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            best: false,
        }
    }
}

fn cells(results: &Results, title: &str, rows: &[&Row], notes: &mut Notes) -> Vec<Vec<Cell>> {
    let mut header = vec![Cell::plain(title), Cell::plain("")];
    header.extend(results.engines.iter().map(|(name, _)| Cell::plain(name)));
    header.push(Cell::plain("to the best of redb, lmdb, fjall"));
    let mut table = vec![header];
    let kinds = engines::built();
    for row in rows {
        let honest = |name: &str| {
            let kind = kinds.iter().find(|kind| kind.name == name);
            kind.is_none_or(|kind| !kind.weaker.contains(&row.phase))
        };
        let names = results.engines.iter().map(|(name, _)| name.as_str());
        let best = row.best(results, names.filter(|name| honest(name)));
        let mut line = vec![Cell::plain(row.label), Cell::plain(row.unit)];
        for (name, measured) in &results.engines {
            let outcomes = measured.phases.get(row.phase).map_or(&[][..], |all| all);
            let absent = outcomes
                .iter()
                .find_map(|outcome| outcome.absent.as_deref());
            let failed = outcomes.iter().any(|outcome| outcome.error.is_some());
            let mut cell = match (row.of(measured), absent) {
                (Some(figure), _) => Cell {
                    text: short(figure.median),
                    best: best == Some(figure.median) && honest(name) && results.engines.len() > 1,
                },
                (None, Some(reason)) => {
                    Cell::plain(format!("–[{}]", notes.number(&format!("{name}: {reason}"))))
                }
                (None, None) if failed => Cell::plain("failed"),
                (None, None) => Cell::plain("–"),
            };
            let kind = kinds.iter().find(|kind| kind.name == name);
            let note = kind.and_then(|kind| {
                let mut all = kind.notes.iter();
                all.find(|(phase, _)| *phase == row.phase)
                    .map(|(_, note)| *note)
            });
            if let Some(note) = note
                && row.group == Group::Time
                && row.of(measured).is_some()
            {
                let _ = write!(cell.text, "[{}]", notes.number(note));
            }
            line.push(cell);
        }
        line.push(Cell::plain(match row.ratio(results) {
            Some(ratio) => format!("{}×", short(ratio)),
            None => "–".to_owned(),
        }));
        table.push(line);
    }
    table
}

/// Three digits that count.
pub fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 99.95 => grouped(number.round() as i64),
        size if size >= 9.995 => format!("{number:.1}"),
        size if size >= 0.9995 => format!("{number:.2}"),
        size if size >= 0.0995 => format!("{number:.3}"),
        0.0 => "0".to_owned(),
        _ => format!("{number:.4}"),
    }
}

fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn as_text(table: &[Vec<Cell>]) -> String {
    let columns = table[0].len();
    let shown = |cell: &Cell| match cell.best {
        true => format!("*{}", cell.text),
        false => cell.text.clone(),
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            table
                .iter()
                .map(|line| shown(&line[column]).chars().count())
                .max()
        })
        .map(|width| width.unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, line) in table.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let cell = shown(cell);
            let gap = " ".repeat(width - cell.chars().count());
            match column {
                0 => text.push_str(&format!("{cell}{gap}")),
                1 => text.push_str(&format!("  {cell}{gap}")),
                _ => text.push_str(&format!("  {gap}{cell}")),
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        if number == 0 {
            let all: usize = widths.iter().map(|width| width + 2).sum();
            text.push_str(&"-".repeat(all - 2));
            text.push('\n');
        }
    }
    text
}

fn as_markdown(table: &[Vec<Cell>]) -> String {
    let mut text = String::new();
    for (number, line) in table.iter().enumerate() {
        text.push('|');
        for (column, cell) in line.iter().enumerate() {
            // The unit joins the label.
            match (column, cell.best) {
                (0, _) if !line[1].text.is_empty() => {
                    let _ = write!(text, " {}, {} |", cell.text, line[1].text);
                }
                (1, _) => {}
                (_, true) => {
                    let _ = write!(text, " **{}** |", cell.text);
                }
                (_, false) => {
                    let _ = write!(text, " {} |", cell.text);
                }
            }
        }
        text.push('\n');
        if number == 0 {
            text.push_str("| --- |");
            text.push_str(&" ---: |".repeat(line.len() - 2));
            text.push('\n');
        }
    }
    text
}

fn describe(results: &Results) -> String {
    let workload = &results.workload;
    let versions: Vec<String> = results
        .engines
        .iter()
        .map(|(name, measured)| {
            let kept = if measured.kept {
                " (measured before)"
            } else {
                ""
            };
            format!("{name} {}{kept}", measured.version)
        })
        .collect();
    let memory = workload.memory_bytes.map_or(String::new(), |bytes| {
        format!(", {} MiB of memory a process", bytes >> 20)
    });
    format!(
        "{} pairs of 24 + 150 bytes, {} run{}, {} MiB of cache{memory}; {}, {} cores, Linux {}; {}",
        grouped(workload.elements as i64),
        workload.repeat,
        if workload.repeat == 1 {
            ""
        } else {
            "s, medians"
        },
        workload.cache_bytes >> 20,
        results.machine.processor,
        results.machine.cores,
        results.machine.kernel,
        versions.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        for (number, text) in [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (0.1234, "0.123"),
            (1.2345, "1.23"),
            (12.345, "12.3"),
            (1234567.8, "1,234,568"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
