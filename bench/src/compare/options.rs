//! The words after `compare`.

use super::set;
use super::subject::Subject;
use crate::load::options::number;
use std::env;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
corelane-bench compare SUBJECT.. --workload FILE.yaml..: brokers side by side
corelane-bench compare --goals: the loads by which our goals are judged, and what came of each

SUBJECT is one of
  corelane      ours, as it starts without a flag
  kafka         Apache Kafka from its Maven artefacts, at its defaults: acknowledged from the page cache
  kafka-flush   the same with log.flush.interval.messages=1: acknowledged after a flush
  tansu         Tansu from PyPI, with its engine in memory

      --workload FILE..  what they are put under; may be repeated
      --rounds N         each meets each so many times, interleaved (3)
      --cores WHAT       split: half of the cores for the broker, half for the load; shared: all for both
                         (split)
      --goals            instead of --workload: the set of loads that belongs to our goals, each with the
                         subjects and cores it is about; subjects that are named leave others out
      --only TEXT        of that set, only what has TEXT in its name; -split and -shared are part of it; may be
                         repeated
      --minutes N        begin no run that would end later than this
      --json FILE        append every run to FILE as a line of JSON
      --html FILE        write a page with tables and plots
      --data DIR         where brokers keep their data while they run (beside this program)
      --corelane PATH    our binary (beside this program)
      --seconds N, --warm-up N, --rate N|max, --verify
                         as in corelane-bench run

Ends with 0; 1 when verification failed or a run broke; 2 when it was asked wrongly; 3 when a subject did
not start.
";

/// Who runs where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    Split,
    Shared,
}

impl Cores {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Shared => "shared",
        }
    }
}

/// A workload, who is put under it, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(super) workload: PathBuf,
    pub(super) subjects: Vec<Subject>,
    pub(super) cores: Cores,
    /// What `run` is told besides.
    pub(super) passed_on: Vec<String>,
    /// A run that takes longer is ended.
    pub(super) within: Option<Duration>,
    /// Whether a bare echo and a bare write are weighed before its runs.
    pub(super) bare: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) entries: Vec<Entry>,
    pub(crate) rounds: u32,
    /// No run begins that would end later.
    pub(crate) time: Option<Duration>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
    pub(crate) data: PathBuf,
    pub(crate) corelane: Option<PathBuf>,
}

/// The words, before they are made one.
#[derive(Default)]
struct Told {
    subjects: Vec<Subject>,
    workloads: Vec<PathBuf>,
    cores: Option<Cores>,
    goals: bool,
    only: Vec<String>,
    seconds: Option<f64>,
    warm_up: Option<f64>,
    /// What `run` is told, and a set has no opinion about.
    others: Vec<String>,
}

const ROUNDS: u32 = 3;
const MINUTES_MAX: f64 = 7.0 * 24.0 * 60.0;
const SECONDS_MAX: f64 = MINUTES_MAX * 60.0;

pub(crate) fn parse(words: &[String]) -> Result<Options, String> {
    let mut told = Told::default();
    let mut options = Options {
        entries: Vec::new(),
        rounds: ROUNDS,
        time: None,
        json: None,
        html: None,
        data: beside_this_program(),
        corelane: None,
    };
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word {
            "--workload" => {
                told.workloads.push(PathBuf::from(value()?));
                while let Some(more) = words.next_if(|it| !it.starts_with('-')) {
                    told.workloads.push(PathBuf::from(more));
                }
            }
            "--rounds" => {
                let text = value()?;
                let rounds = text.parse().ok().filter(|it| 0 < *it);
                options.rounds =
                    rounds.ok_or_else(|| format!("{word}: {text} is not a number of rounds"))?;
            }
            "--cores" => {
                told.cores = Some(match value()? {
                    "split" => Cores::Split,
                    "shared" => Cores::Shared,
                    other => return Err(format!("{word}: {other} is neither split nor shared")),
                });
            }
            "--goals" => told.goals = true,
            "--only" => told.only.push(value()?.to_owned()),
            "--minutes" => {
                let minutes = number(word, value()?, f64::MIN_POSITIVE, MINUTES_MAX)?;
                options.time = Some(Duration::from_secs_f64(minutes * 60.0));
            }
            "--json" => options.json = Some(PathBuf::from(value()?)),
            "--html" => options.html = Some(PathBuf::from(value()?)),
            "--data" => options.data = PathBuf::from(value()?),
            "--corelane" => options.corelane = Some(PathBuf::from(value()?)),
            "--verify" => told.others.push(word.to_owned()),
            "--seconds" => told.seconds = Some(number(word, value()?, 1.0, SECONDS_MAX)?),
            "--warm-up" => told.warm_up = Some(number(word, value()?, 0.0, SECONDS_MAX)?),
            "--rate" => {
                let value = value()?.to_owned();
                told.others.extend([word.to_owned(), value]);
            }
            other if other.starts_with('-') => return Err(format!("there is no option {other}")),
            name => told.subjects.push(Subject::named(name)?),
        }
    }
    options.entries = if told.goals { goals(&told)? } else { chosen(told)? };
    // What `run` would refuse is refused before anything is started.
    for entry in &options.entries {
        let file = entry.workload.to_string_lossy().into_owned();
        let words: Vec<_> = std::iter::once(file).chain(entry.passed_on.iter().cloned()).collect();
        let told = crate::load::options::parse(&words)?;
        crate::load::check(&told)?;
    }
    Ok(options)
}

/// The set, as far as it was asked for.
fn goals(told: &Told) -> Result<Vec<Entry>, String> {
    if !told.workloads.is_empty() || told.cores.is_some() {
        return Err("--goals says itself which loads there are, and on which cores".to_owned());
    }
    if told.others.iter().any(|it| it == "--rate") {
        return Err("--goals says itself at which rates".to_owned());
    }
    let mut entries = set::entries(&told.only, &told.subjects, told.seconds, told.warm_up);
    if entries.is_empty() {
        return Err("nothing of --goals is left".to_owned());
    }
    for entry in &mut entries {
        entry.passed_on.extend(told.others.iter().cloned());
    }
    Ok(entries)
}

/// Every workload with every subject.
fn chosen(told: Told) -> Result<Vec<Entry>, String> {
    if told.subjects.is_empty() {
        return Err(format!("which subjects? {}", Subject::names()));
    }
    if told.workloads.is_empty() {
        return Err("under which load? --workload FILE.yaml, or --goals".to_owned());
    }
    if !told.only.is_empty() {
        return Err("--only chooses from --goals".to_owned());
    }
    let mut passed_on = told.others;
    for (word, value) in [("--seconds", told.seconds), ("--warm-up", told.warm_up)] {
        passed_on.extend(value.into_iter().flat_map(|it| [word.to_owned(), it.to_string()]));
    }
    let entry = |workload| Entry {
        workload,
        subjects: told.subjects.clone(),
        cores: told.cores.unwrap_or(Cores::Split),
        passed_on: passed_on.clone(),
        within: None,
        bare: false,
    };
    Ok(told.workloads.into_iter().map(entry).collect())
}

fn beside_this_program() -> PathBuf {
    let program = env::current_exe().ok();
    program.and_then(|it| it.parent().map(PathBuf::from)).unwrap_or_else(env::temp_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_bring_their_loads_and_subjects() {
        let options = told("corelane --goals --only one-in --minutes 2 --seconds 3 --verify");
        let options = options.expect("good");
        let [entry] = &options.entries[..] else { panic!("{:?}", options.entries) };
        assert_eq!((&entry.subjects[..], entry.bare), (&[Subject::Corelane][..], true));
        assert_eq!(entry.passed_on, ["--seconds", "3", "--warm-up", "12", "--verify"]);
        assert_eq!(options.time, Some(Duration::from_secs(120)));
    }

    fn told(line: &str) -> Result<Options, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn words_become_options_or_are_refused() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/omb-simple.yaml");
        let options = told(&format!(
            "corelane kafka-flush --workload {file} {file} --rounds 2 --cores shared --rate max --verify"
        ));
        let options = options.expect("good");
        assert_eq!((options.entries.len(), options.rounds, options.time), (2, 2, None));
        for entry in &options.entries {
            assert_eq!(entry.subjects, [Subject::Corelane, Subject::KafkaFlush]);
            assert_eq!(entry.cores, Cores::Shared);
            assert_eq!(entry.passed_on, ["--rate", "max", "--verify"]);
        }
        let refused = |line: &str| told(line).expect_err("it cannot be meant");
        assert_eq!(
            refused("--workload a.yaml"),
            "which subjects? corelane, kafka, kafka-flush, tansu"
        );
        assert_eq!(refused("corelane"), "under which load? --workload FILE.yaml, or --goals");
        assert!(refused("--goals --cores shared").contains("on which cores"));
        assert!(refused("--goals --rate 5").contains("at which rates"));
        assert_eq!(refused("--goals --only pears"), "nothing of --goals is left");
        assert_eq!(
            refused(&format!("corelane --workload {file} --only pears")),
            "--only chooses from --goals"
        );
        assert!(refused("--goals --minutes 0").starts_with("--minutes: 0 is not from"));
        assert_eq!(refused("corelane --rounds 0"), "--rounds: 0 is not a number of rounds");
        assert_eq!(refused("corelane --cores some"), "--cores: some is neither split nor shared");
        assert!(refused("redis").contains("a protocol of its own"));
        assert!(refused("pulsar").starts_with("nobody is called pulsar"));
        assert!(refused("corelane --workload /no/such/file.yaml").contains("/no/such/file.yaml"));
        assert!(refused(&format!("corelane --workload {file} --seconds x")).contains("--seconds"));
    }
}
