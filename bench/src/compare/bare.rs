//! What a message and a durable write cost on this machine with nothing around them: the floor that a
//! broker which answers what is flushed stands on. `corelane-perf`, beside this program, weighs both.

use serde_json::{Value, json};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

const SCALES: &str = "corelane-perf";
/// Each is weighed so often, so long.
const RUNS: &str = "3";
const SECONDS: &str = "0.5";

/// The program that weighs, or why it is not there.
pub(super) fn scales() -> Result<PathBuf, String> {
    let program = env::current_exe().map_err(|it| format!("where am I: {it}"))?;
    let scales = program.with_file_name(SCALES);
    if scales.is_file() {
        return Ok(scales);
    }
    Err(format!("{} is not there; build it: cargo build --release -p {SCALES}", scales.display()))
}

/// The medians in microseconds of an echo of 1 KiB and of a durable write of 4 KiB.
pub(super) fn weigh(scales: &Path, data: &Path) -> Result<Value, String> {
    let echo = p50(scales, data, ["echo", "epoll", "1 connection, 1 KiB"])?;
    let write = p50(scales, data, ["commit", "bare", "4 KiB"])?;
    Ok(json!({"echo_p50_us": echo, "dsync_p50_us": write}))
}

fn p50(scales: &Path, data: &Path, [what, subject, case]: [&str; 3]) -> Result<f64, String> {
    let file = data.join(format!("corelane-bare-{}.jsonl", process::id()));
    let mut command = Command::new(scales);
    command.args([what, "--subject", subject, "--case", case]);
    command.args(["--runs", RUNS, "--seconds", SECONDS, "--dir"]).arg(data);
    command.arg("--json").arg(&file).stdout(Stdio::null());
    let told = |it: &dyn ToString| format!("{what} of {SCALES}: {}", it.to_string());
    let status = command.status().map_err(|it| told(&it))?;
    if !status.success() {
        return Err(told(&format!("it ended with {status}")));
    }
    let text = fs::read_to_string(&file).map_err(|it| told(&it))?;
    fs::remove_file(&file).map_err(|it| told(&it))?;
    let mut lines = text.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
    let line = lines.find(|it| it["metric"] == "p50_us");
    line.and_then(|it| it["value"].as_f64()).ok_or_else(|| told(&"it told no median"))
}
