//! The public interface as a text, so that each change of it is deliberate.
//!
//! `public_interface.txt` has every public item as its documentation shows it: declarations, methods,
//! what is implemented for what, `Send` and `Sync` included. The compiler itself says what that is,
//! whatever macros and re-exports are between, by way of the pages of `cargo doc`. What is not
//! documented, or behind the feature `simulation`, is no part of it.
//!
//! It takes a run of `cargo doc`, so it has to be asked for, and the compiler for which the text was
//! made, whose version is in its first line; with another one only that is said:
//!
//! ```sh
//! cargo test --test public_interface -- --ignored
//! THUNDERHEAD_REWRITE=1 cargo test --test public_interface -- --ignored
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/public_interface.txt");
/// Other packages that `cargo` builds for this one go where it does, too.
const OWN_TESTS: &str = env!("CARGO_TARGET_TMPDIR");

/// All features but those that are outside of the interface.
fn features() -> Outcome<String> {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))?;
    let (_, features) = manifest.split_once("[features]").ok_or("no features")?;
    let features = features.split("\n[").next().unwrap_or_default();
    let names = features
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0.trim()))
        .filter(|name| !["default", "simulation"].contains(name));
    Ok(names.collect::<Vec<_>>().join(","))
}

/// Makes the documentation, and nothing else where it is; gives its directory.
fn documentation() -> Outcome<PathBuf> {
    let target = Path::new(OWN_TESTS).parent().ok_or("a target directory")?;
    let pages = target.join("doc/thunderhead");
    if pages.exists() {
        // Pages of items that are gone would stay.
        fs::remove_dir_all(&pages)?;
    }
    let status = Command::new(env!("CARGO"))
        .args(["doc", "--quiet", "--no-deps", "--features", &features()?])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    match status.success() {
        true => Ok(pages),
        false => Err("cargo doc fails".into()),
    }
}

fn pages_below(directory: &Path, found: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            pages_below(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "html") {
            found.push(path);
        }
    }
    Ok(())
}

/// What stands between two marks, from the first one on.
fn between<'h>(html: &'h str, from: &str, to: &str) -> Option<&'h str> {
    let (_, rest) = html.split_once(from)?;
    Some(rest.split_once(to).map_or(rest, |(within, _)| within))
}

/// The text of a piece of a page, in one line.
fn plain(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, after)) = rest.split_once('<') {
        text += before;
        rest = after.split_once('>').map_or("", |(_, after)| after);
    }
    text += rest;
    for (entity, stands_for) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&nbsp;", " "),
        ("ⓘ", ""),
        ("&amp;", "&"),
    ] {
        text = text.replace(entity, stands_for);
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    line.replace("( ", "(")
        .replace(", )", ")")
        .replace("< ", "<")
}

/// The declarations in a section of a page: those of implementations, and within these of methods.
fn headers(section: &str) -> impl Iterator<Item = (bool, String)> {
    section.split("<h").filter_map(|piece| {
        let (level, rest) = piece.split_at_checked(1)?;
        let header = rest.strip_prefix(" class=\"code-header\">")?;
        let text = header.split_once(&format!("</h{level}>"))?.0;
        Some((level == "3", plain(text)))
    })
}

/// A page in text: the declaration of its item, and what is implemented for it.
fn told(html: &str) -> Option<String> {
    let declaration = between(html, "<pre class=\"rust item-decl\">", "</pre>")?;
    // Long lists of fields are folded up, under a line that counts them.
    let declaration: String = declaration
        .split("<summary")
        .map(|piece| {
            piece
                .split_once("</summary>")
                .map_or(piece, |(_, rest)| rest)
        })
        .collect();
    let mut lines = vec![plain(&declaration)];
    let is_trait = html.contains("<h2 id=\"implementors\"");
    let list = |id: &str| {
        let begins = format!("<div id=\"{id}\">");
        between(html, &begins, "<h2 ").unwrap_or_default()
    };
    let mut implemented = BTreeMap::new();
    let mut last = String::new();
    if !is_trait {
        for (is_impl, text) in headers(list("implementations-list")) {
            match is_impl {
                true => last = text,
                false => implemented
                    .entry(last.clone())
                    .or_insert_with(Vec::new)
                    .push(text),
            }
        }
    }
    for (is_impl, text) in headers(list("trait-implementations-list")) {
        if is_impl {
            last = text;
            implemented.entry(last.clone()).or_default();
        } else if text.starts_with("type ") {
            implemented.entry(last.clone()).or_default().push(text);
        }
    }
    for (is_impl, text) in headers(list("synthetic-implementations-list")) {
        let is_told = [" Send for ", " Sync for "];
        if is_impl && is_told.iter().any(|told| text.contains(told)) {
            implemented.entry(text).or_default();
        }
    }
    for (header, mut members) in implemented {
        members.sort();
        lines.push(header);
        lines.extend(members.into_iter().map(|member| format!("    {member}")));
    }
    Some(lines.join("\n"))
}

/// The whole interface.
fn interface() -> Outcome<String> {
    let directory = documentation()?;
    let mut pages = Vec::new();
    pages_below(&directory, &mut pages)?;
    let mut items = BTreeMap::new();
    for page in pages {
        let path = page.strip_prefix(&directory)?.with_extension("");
        let mut path: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
        let Some((kind, name)) = path.pop().and_then(|file| file.split_once('.')) else {
            continue;
        };
        // Where a private module has an item, its page only leads to the public one.
        if let Some(told) = told(&fs::read_to_string(&page)?) {
            path.push(name);
            items.insert(
                path.join("::"),
                format!("{kind} {}\n{told}\n", path.join("::")),
            );
        }
    }
    let items: Vec<String> = items.into_values().collect();
    Ok(items.join("\n"))
}

fn compiler() -> Outcome<String> {
    let output = Command::new("rustc").arg("--version").output()?;
    let version = String::from_utf8(output.stdout)?;
    let words: Vec<&str> = version.split_whitespace().take(2).collect();
    Ok(words.join(" "))
}

#[test]
#[ignore = "builds the documentation, which CI does once, where it asks for this test"]
fn the_public_interface_is_what_the_text_says() -> Outcome {
    let compiler = compiler()?;
    let rewrite = std::env::var_os("THUNDERHEAD_REWRITE").is_some();
    let expected = match rewrite {
        true => String::new(),
        false => fs::read_to_string(TEXT)?,
    };
    let made_with = expected.lines().next().unwrap_or_default();
    if !rewrite && made_with != compiler {
        println!("the text was made with {made_with}, this is {compiler}: not compared");
        return Ok(());
    }
    let found = format!("{compiler}\n\n{}", interface()?);
    if rewrite {
        return Ok(fs::write(TEXT, found)?);
    }
    let (expected, found): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), found.lines().collect());
    let gone = expected.iter().filter(|line| !found.contains(line));
    let new = found.iter().filter(|line| !expected.contains(line));
    let gone = gone.map(|line| format!("- {line}"));
    let new = new.map(|line| format!("+ {line}"));
    let changes: Vec<String> = gone.chain(new).collect();
    assert!(
        expected == found,
        "the public interface has changed; if it is meant to, rewrite the text:\n{}",
        changes.join("\n")
    );
    Ok(())
}
