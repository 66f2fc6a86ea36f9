//! What is told of the results.
//!
//! | module | idea |
//! | --- | --- |
//! | `rows` | what the rows of all reports are, and their medians |
//! | `table` | tables, plain or in Markdown |
//! | `json` | everything |
//! | `requirements` | what is required of Thunderhead |

mod json;
mod requirements;
mod rows;
mod table;

pub use json::write as write_json;
pub use requirements::hold as requirements;
pub use table::tables;
