//! A plot: for each row how long every engine took compared to Thunderhead, as dots on a logarithmic
//! axis. Written by hand, since all it needs is lines, circles and text.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::rows::{Group, ROWS, Row};
use super::table::short;
use crate::campaign::Results;
use crate::engines::{NAMES, Result};

/// The sections, and the phases whose time, or the rows of another group, that are in each.
const SECTIONS: &[(&str, Group, &[&str])] = &[
    (
        "Writing",
        Group::Time,
        &[
            "load",
            "load-sorted",
            "singles",
            "batches",
            "unsynced",
            "updates",
            "mixed",
            "removal",
            "delete-range",
        ],
    ),
    (
        "Reading",
        Group::Time,
        &[
            "count",
            "reads",
            "misses",
            "ranges",
            "ranges-backward",
            "scan",
            "scan-backward",
            "reads-2",
            "reads-4",
            "reads-8",
        ],
    ),
    (
        "Opening and upkeep",
        Group::Time,
        &["reopen", "reopen-killed", "compact"],
    ),
    (
        "Paths and large values",
        Group::Time,
        &[
            "paths-load",
            "paths-reads",
            "paths-scan",
            "large-1-write",
            "large-1-read",
            "large-1-part",
            "large-64-write",
            "large-64-read",
            "large-64-part",
        ],
    ),
    (
        "Latency of durable puts under reads",
        Group::Latency,
        &["latency"],
    ),
    (
        "Bytes written to a byte of data",
        Group::Written,
        &["load", "updates"],
    ),
    (
        "Size of the files",
        Group::Size,
        &["load", "updates", "compact", "paths-load"],
    ),
    (
        "Peak of memory",
        Group::Memory,
        &["load", "updates", "small-memory"],
    ),
];

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 940.0;
const TOP: f64 = 132.0;
const LINE: f64 = 21.0;
const HEADING: f64 = 34.0;
/// Ratios from a hundredth to a hundredfold; what lies beyond is shown at the edge.
const DECADES: f64 = 2.0;

/// Colours that can be told apart, by those too who see few of them (after Okabe and Ito).
const COLOURS: [(&str, &str); 8] = [
    ("thunderhead", "#1a1a2e"),
    ("redb", "#d55e00"),
    ("lmdb", "#0072b2"),
    ("fjall", "#009e73"),
    ("canopydb", "#cc79a7"),
    ("sqlite", "#56b4e9"),
    ("sled", "#e69f00"),
    ("rocksdb", "#7a5195"),
];

pub fn write(results: &Results, path: &Path) -> Result<()> {
    fs::write(path, draw(results)).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Where a ratio is on the axis.
fn across(ratio: f64) -> f64 {
    let place = ratio.log10().clamp(-DECADES, DECADES) / DECADES;
    (LEFT + RIGHT) / 2.0 + place * (RIGHT - LEFT) / 2.0
}

fn draw(results: &Results) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for (title, group, phases) in SECTIONS {
        let rows: Vec<&Row> = phases
            .iter()
            .flat_map(|phase| {
                ROWS.iter()
                    .filter(move |row| row.group == *group && row.phase == *phase)
            })
            // What the disk does by itself is no engine's figure.
            .filter(|row| !row.is_of_the_disk())
            .filter(|row| own(results, row).is_some())
            .collect();
        if rows.is_empty() {
            continue;
        }
        y += HEADING;
        let _ = writeln!(
            body,
            r##"<text x="24" y="{:.0}" class="section">{title}</text>"##,
            y - 8.0
        );
        for (number, row) in rows.iter().enumerate() {
            draw_row(&mut body, results, row, y, number % 2 == 0);
            y += LINE;
        }
    }
    let height = y + 44.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif">
<style>
text {{ fill: #222; font-size: 12.5px }}
.title {{ font-size: 21px; font-weight: 600 }}
.small {{ font-size: 11.5px; fill: #666 }}
.section {{ font-size: 13.5px; font-weight: 600 }}
.end {{ text-anchor: end }}
.middle {{ text-anchor: middle }}
</style>
<rect width="100%" height="100%" fill="#fdfdfb"/>
<text x="24" y="38" class="title">Peers compared to Thunderhead</text>
<text x="24" y="58" class="small">{}</text>
"##,
        escaped(&describe(results))
    );
    draw_legend(&mut svg, results);
    draw_axis(&mut svg, y);
    svg.push_str(&body);
    let _ = writeln!(
        svg,
        r##"<text x="24" y="{:.0}" class="small">Medians. Dots at an edge lie beyond it. Time is on the clock; what rows and settings mean stands in benches/peers/README.md.</text>
</svg>"##,
        height - 16.0
    );
    svg
}

fn own(results: &Results, row: &Row) -> Option<f64> {
    let figure = row.of(results.engine("thunderhead")?)?;
    (figure.median > 0.0).then_some(figure.median)
}

fn draw_row(body: &mut String, results: &Results, row: &Row, y: f64, shaded: bool) {
    let Some(own) = own(results, row) else { return };
    if shaded {
        let _ = writeln!(
            body,
            r##"<rect x="16" y="{y:.1}" width="{:.0}" height="{LINE}" fill="#000" opacity="0.03"/>"##,
            WIDTH - 32.0
        );
    }
    let middle = y + LINE / 2.0;
    let label = row.label.replace('`', "");
    let _ = writeln!(
        body,
        r##"<text x="{:.0}" y="{:.1}" class="end">{}</text>
<text x="{:.0}" y="{:.1}" class="end">{} {}</text>"##,
        LEFT - 16.0,
        middle + 4.5,
        escaped(&label),
        WIDTH - 24.0,
        middle + 4.5,
        short(own),
        escaped(
            row.unit
                .trim_end_matches(" each")
                .trim_end_matches(" a put")
        ),
    );
    for (name, measured) in &results.engines {
        let Some(figure) = row.of(measured) else {
            continue;
        };
        let ratio = figure.median / own;
        let (x, colour) = (across(ratio), colour(name));
        // What is beyond the axis points there.
        let beyond = ratio.log10().abs() > DECADES;
        let said = format!("{name}: {} {}", short(figure.median), row.unit);
        let shape = match (name.as_str(), beyond) {
            ("thunderhead", _) => format!(
                r##"<rect x="{:.1}" y="{:.1}" width="3" height="{:.1}" fill="{colour}">"##,
                x - 1.5,
                y + 3.0,
                LINE - 6.0
            ),
            (_, true) => {
                let towards = if ratio > 1.0 { 6.0 } else { -6.0 };
                format!(
                    r##"<path d="M{:.1} {:.1}l{towards} 4.5l{} 4.5z" fill="{colour}" fill-opacity="0.85">"##,
                    x,
                    middle - 4.5,
                    -towards
                )
            }
            _ => format!(
                r##"<circle cx="{x:.1}" cy="{middle:.1}" r="4.8" fill="{colour}" fill-opacity="0.85">"##
            ),
        };
        let end = match (name.as_str(), beyond) {
            ("thunderhead", _) => "rect",
            (_, true) => "path",
            _ => "circle",
        };
        let _ = writeln!(body, "{shape}<title>{}</title></{end}>", escaped(&said));
    }
}

fn draw_legend(svg: &mut String, results: &Results) {
    let mut x = 30.0;
    for (name, measured) in &results.engines {
        let colour = colour(name);
        let _ = match name.as_str() {
            "thunderhead" => writeln!(
                svg,
                r##"<rect x="{:.0}" y="76" width="3" height="15" fill="{colour}"/>"##,
                x - 1.5
            ),
            _ => writeln!(
                svg,
                r##"<circle cx="{x:.0}" cy="84" r="4.8" fill="{colour}"/>"##
            ),
        };
        let text = format!("{name} {}", measured.version);
        let _ = writeln!(
            svg,
            r##"<text x="{:.0}" y="88">{}</text>"##,
            x + 10.0,
            escaped(&text)
        );
        x += 34.0 + 6.8 * text.len() as f64;
    }
}

fn draw_axis(svg: &mut String, bottom: f64) {
    let middle = across(1.0);
    let top = TOP - 4.0;
    let _ = writeln!(
        svg,
        r##"<rect x="{LEFT}" y="{top}" width="{:.0}" height="{:.0}" fill="#d55e00" opacity="0.035"/>
<rect x="{middle}" y="{top}" width="{:.0}" height="{:.0}" fill="#009e73" opacity="0.045"/>
<text x="{:.0}" y="{:.0}" class="small middle">← less than Thunderhead</text>
<text x="{:.0}" y="{:.0}" class="small middle">more than Thunderhead →</text>
<text x="{:.0}" y="{:.0}" class="small end">Thunderhead</text>"##,
        middle - LEFT,
        bottom - top,
        RIGHT - middle,
        bottom - top,
        (LEFT + middle) / 2.0,
        TOP - 24.0,
        (RIGHT + middle) / 2.0,
        TOP - 24.0,
        WIDTH - 24.0,
        TOP - 9.0,
    );
    for (ratio, text, strong) in [
        (0.01, "1/100", false),
        (0.1, "1/10", false),
        (0.5, "1/2", false),
        (1.0, "1×", true),
        (2.0, "2×", false),
        (10.0, "10×", false),
        (100.0, "100×", false),
    ] {
        let x = across(ratio);
        let (colour, width) = match strong {
            true => ("#1a1a2e", 1.4),
            false => ("#999", 0.6),
        };
        let _ = writeln!(
            svg,
            r##"<line x1="{x:.1}" x2="{x:.1}" y1="{top}" y2="{bottom:.0}" stroke="{colour}" stroke-width="{width}"/>
<text x="{x:.1}" y="{:.0}" class="small middle">{text}</text>"##,
            TOP - 9.0
        );
    }
}

fn describe(results: &Results) -> String {
    let workload = &results.workload;
    format!(
        "{} pairs of 24 + 150 random bytes, {} MiB of cache{}; {}, {} cores, Linux {}",
        short(workload.elements as f64),
        workload.cache_bytes >> 20,
        workload.memory_bytes.map_or(String::new(), |bytes| format!(
            ", {} MiB of memory",
            bytes >> 20
        )),
        results.machine.processor,
        results.machine.cores,
        results.machine.kernel,
    )
}

fn colour(name: &str) -> &'static str {
    debug_assert_eq!(NAMES.len(), COLOURS.len());
    let mut colours = COLOURS.iter();
    colours
        .find(|(other, _)| *other == name)
        .map_or("#888", |(_, colour)| colour)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
