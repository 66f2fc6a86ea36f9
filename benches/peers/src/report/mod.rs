//! What is told of the results.
//!
//! | module | idea |
//! | --- | --- |
//! | `rows` | what the rows of all reports are, and their medians |
//! | `table` | tables, plain or in Markdown |
//! | `json` | everything |
//! | `plot` | ratios at a glance |
//! | `requirements` | what is required of Thunderhead |

mod json;
mod plot;
mod requirements;
mod rows;
mod table;

pub use json::write as write_json;
pub use plot::write as write_plot;
pub use requirements::hold as requirements;
pub use table::tables;
